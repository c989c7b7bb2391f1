//! Which requests of the own contract callers may repeat: those with a `request_id`.

use api_pipelines::v1 as own;

use crate::api::call::{Mutation, sorted};

macro_rules! keyed {
    ($($request:ident)*) => { $(
        impl Mutation for own::$request {
            fn request_id(&self) -> Option<&str> {
                Some(&self.request_id)
            }
        }
    )* };
}

keyed!(CloneRunRequest CreateBackfillRequest CreateScheduleRequest DeleteRunRequest DeleteScheduleRequest
    EditScheduleRequest EnableScheduleRequest StopBackfillRequest);

impl Mutation for own::SubmitRunRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        sorted(&mut self.tags, String::into_bytes)
    }

    fn request_id(&self) -> Option<&str> {
        Some(&self.request_id)
    }
}

impl Mutation for own::TagRunRequest {
    fn take_maps(&mut self) -> Vec<u8> {
        sorted(&mut self.set, String::into_bytes)
    }

    fn request_id(&self) -> Option<&str> {
        Some(&self.request_id)
    }
}
