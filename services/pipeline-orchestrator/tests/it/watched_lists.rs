//! Lists of runs that are followed.

use std::time::Duration;

use api_kfp::v2beta1 as kfp;
use api_pipelines::v1 as own;
use tonic::{Code, Streaming};

use crate::support::{Server, server, servers};

const LIMIT: Duration = Duration::from_secs(30);

impl Server {
    async fn watch_list(&self, filter: &str, page_size: i32) -> Streaming<own::WatchRunsResponse> {
        let request = own::WatchRunsRequest {
            filter: filter.to_owned(),
            page_size,
        };
        self.lists().watch_runs(request).await.unwrap().into_inner()
    }
}

/// What a reader of a list knows, kept as the contract says.
struct Reader {
    stream: Streaming<own::WatchRunsResponse>,
    runs: Vec<own::RunSummary>,
    token: String,
    gone: Vec<String>,
    wholes: usize,
}

impl Reader {
    async fn new(server: &Server, filter: &str, page_size: i32) -> Self {
        let mut reader = Self {
            stream: server.watch_list(filter, page_size).await,
            runs: Vec::new(),
            token: String::new(),
            gone: Vec::new(),
            wholes: 0,
        };
        reader.next().await;
        assert_eq!(reader.wholes, 1, "the first message is the page");
        reader
    }

    async fn next(&mut self) {
        let message = tokio::time::timeout(LIMIT, self.stream.message()).await;
        let message = message.unwrap().unwrap();
        let said = message.unwrap();
        if said.whole {
            self.wholes += 1;
            self.token = said.next_page_token;
            self.runs.clear();
        }
        self.runs.retain(|old| {
            !said.gone.contains(&old.run_id)
                && !said.runs.iter().any(|new| new.run_id == old.run_id)
        });
        self.gone.extend(said.gone);
        self.runs.extend(said.runs);
        self.runs
            .sort_by(|a, b| a.display_name.cmp(&b.display_name));
    }

    /// Reads on until the list is as wanted.
    async fn until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        while !wanted(self) {
            tokio::time::timeout(LIMIT, self.next())
                .await
                .unwrap_or_else(|_| panic!("{what}: {:?}", self.runs));
        }
    }

    fn names(&self) -> Vec<&str> {
        let names = self.runs.iter().map(|run| run.display_name.as_str());
        names.collect()
    }
}

#[tokio::test]
async fn a_list_is_told_and_then_what_changes_in_it() {
    for server in servers().await {
        let one = server.submit("one", 1, &[("team", "vision")]).await;
        let mut all = Reader::new(&server, "", 0).await;
        let mut vision = Reader::new(&server, "tag.team = vision AND archived = false", 0).await;
        assert_eq!((all.names(), vision.names()), (vec!["one"], vec!["one"]));
        assert_eq!(vision.runs[0].tags["team"], "vision");

        let two = server.submit("two", 2, &[]).await;
        all.until("a new run", |list| list.names() == ["one", "two"])
            .await;
        all.until("that it has begun", |list| {
            list.runs
                .iter()
                .all(|run| run.state() == own::State::Running)
        })
        .await;
        vision
            .until("a run of others", |list| list.gone.contains(&two.run_id))
            .await;
        assert_eq!(vision.names(), ["one"]);

        server.tag(&two.run_id, "team", "vision").await;
        vision
            .until("a tag", |list| list.names() == ["one", "two"])
            .await;
        server.tag(&one.run_id, "team", "speech").await;
        vision
            .until("another tag", |list| list.names() == ["two"])
            .await;
        assert!(vision.gone.contains(&one.run_id));

        let archive = kfp::ArchiveRunRequest {
            run_id: two.run_id.clone(),
            ..Default::default()
        };
        server.runs().archive_run(archive).await.unwrap();
        vision
            .until("an archived run", |list| list.names().is_empty())
            .await;
        all.until("that it is archived", |list| {
            list.runs.iter().any(|run| run.archived)
        })
        .await;
        let delete = kfp::DeleteRunRequest {
            run_id: two.run_id.clone(),
            ..Default::default()
        };
        server.runs().delete_run(delete).await.unwrap();
        all.until("a deleted run", |list| list.names() == ["one"])
            .await;
        assert!(all.gone.contains(&two.run_id));
        assert_eq!((all.wholes, vision.wholes), (1, 1));
    }
}

#[tokio::test]
async fn what_changes_many_runs_is_told_as_a_page() {
    let server = server().await;
    let one = server.submit("one", 1, &[]).await;
    server.submit("two", 2, &[]).await;
    let mut list = Reader::new(&server, "", 1).await;
    assert_eq!(list.runs.len(), 1);
    assert!(!list.token.is_empty());
    let rest = own::ListRunsRequest {
        page_size: 10,
        page_token: list.token.clone(),
        ..Default::default()
    };
    let rest = server.lists().list_runs(rest).await.unwrap().into_inner();
    assert_eq!(rest.runs.len(), 1, "the token goes on after the page");
    let archive = kfp::ArchiveExperimentRequest {
        experiment_id: one.experiment_id,
    };
    server
        .experiments()
        .archive_experiment(archive)
        .await
        .unwrap();
    list.until("the page", |list| {
        list.wholes == 2 && list.runs.iter().all(|run| run.archived)
    })
    .await;
}

#[tokio::test]
async fn a_list_that_cannot_be_watched_is_refused() {
    let server = server().await;
    for (filter, page_size) in [("colour = red", 0), ("", -1)] {
        let request = own::WatchRunsRequest {
            filter: filter.to_owned(),
            page_size,
        };
        let refused = server.lists().watch_runs(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{filter}");
    }
}

impl Server {
    async fn tag(&self, run_id: &str, name: &str, value: &str) {
        let request = own::TagRunRequest {
            run_id: run_id.to_owned(),
            set: [(name.to_owned(), value.to_owned())].into(),
            ..Default::default()
        };
        self.lists().tag_run(request).await.unwrap();
    }
}
