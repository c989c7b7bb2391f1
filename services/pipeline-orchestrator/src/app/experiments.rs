//! Experiments.

use clock::Timestamp;
use ids::ExperimentId;

use super::{App, Call, Reply};
use crate::domain::{DEFAULT_EXPERIMENT, Experiment, Query, StorageState};
use crate::error::Error;
use crate::store::{Page, experiments, runs, schedules};

const KIND: &str = "experiment";

impl App {
    /// Makes sure that the default experiment exists.
    pub async fn ensure_default_experiment(&self) -> Result<(), Error> {
        let now = self.parts().clock.now();
        let write = self.parts().db.write(move |conn| {
            Box::pin(async move {
                let text =
                    "All runs created without specifying an experiment will be grouped here.";
                experiments::ensure(conn, DEFAULT_EXPERIMENT, text, now)
                    .await
                    .map(drop)
            })
        });
        write.await.map_err(|error: sql::Error| error.into())
    }

    /// Creates an experiment.
    pub async fn create_experiment(
        &self,
        call: Call<Experiment>,
        name: String,
        description: String,
    ) -> Result<Reply<Experiment>, Error> {
        let experiment = Experiment {
            id: ExperimentId::generate(),
            name,
            description,
            created_at: self.parts().clock.now(),
            last_run_created_at: Timestamp::EPOCH,
            storage_state: StorageState::Available,
        };
        let create = self.mutate(call, move |conn| {
            Box::pin(async move {
                let inserted = experiments::insert(conn, &experiment).await;
                inserted.map_err(|error| Error::taken(error, KIND, &experiment.name))?;
                Ok(experiment)
            })
        });
        create.await
    }

    /// Returns an experiment.
    pub async fn get_experiment(&self, id: ExperimentId) -> Result<Experiment, Error> {
        let found =
            self.read(move |conn| Box::pin(async move { Ok(experiments::get(conn, id).await?) }));
        found.await?.ok_or_else(|| Error::not_found(KIND, id))
    }

    /// Returns a page of experiments.
    pub async fn list_experiments(&self, query: Query) -> Result<Page<Experiment>, Error> {
        let page = self
            .read(move |conn| Box::pin(async move { Ok(experiments::list(conn, &query).await?) }));
        page.await
    }

    /// Puts an experiment and its runs away, and disables its schedules.
    pub async fn archive_experiment(
        &self,
        call: Call<()>,
        id: ExperimentId,
    ) -> Result<Reply<()>, Error> {
        let archive = self.mutate_listed(call, None, move |conn| {
            Box::pin(async move {
                if !experiments::set_storage(conn, id, StorageState::Archived).await? {
                    return Err(Error::not_found(KIND, id));
                }
                schedules::disable_of(conn, id).await?;
                Ok(runs::archive_of(conn, id).await?)
            })
        });
        archive.await
    }

    /// Takes an experiment back; its runs stay put away.
    pub async fn unarchive_experiment(
        &self,
        call: Call<()>,
        id: ExperimentId,
    ) -> Result<Reply<()>, Error> {
        let unarchive = self.mutate(call, move |conn| {
            Box::pin(async move {
                match experiments::set_storage(conn, id, StorageState::Available).await? {
                    true => Ok(()),
                    false => Err(Error::not_found(KIND, id)),
                }
            })
        });
        unarchive.await
    }

    /// Deletes an experiment; its runs stay.
    pub async fn delete_experiment(
        &self,
        call: Call<()>,
        id: ExperimentId,
    ) -> Result<Reply<()>, Error> {
        let delete = self.mutate(call, move |conn| {
            Box::pin(async move {
                let found = experiments::get(conn, id).await?;
                let experiment = found.ok_or_else(|| Error::not_found(KIND, id))?;
                if experiment.name == DEFAULT_EXPERIMENT {
                    return Err(Error::Precondition {
                        reason: "DEFAULT_EXPERIMENT",
                        kind: KIND,
                        name: id.to_string(),
                        message: "the default experiment cannot be deleted, since runs without an experiment belong \
                                  to it"
                            .to_owned(),
                    });
                }
                experiments::delete(conn, id).await?;
                Ok(())
            })
        });
        delete.await
    }
}
