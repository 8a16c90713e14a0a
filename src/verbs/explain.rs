//! `knarr explain svc/NAME`: why a Service does or does not route; `knarr explain FROM TO`: what a packet meets.

mod front;
mod gather;

use std::process::ExitCode;

use anyhow::Result;
use clap::ValueEnum;
use knarr_netproxy::explain::{Client, Destination, Explanation, Question, Unreadable, explain};

use super::Scope;
use crate::{
    client,
    exit::{Code, Failure},
    settings::Settings,
};

const EXAMPLES: &str = "Examples:
  knarr explain svc/kubia                                 why a Service does or does not route
  knarr explain pod/shop-1 http://10.0.128.7              what a packet of a pod meets on its way
  knarr explain pod/shop-1 http://kubia                   the same, with the name looked up as the pod would
  knarr explain node/n1 10.0.128.10:53/udp                from a process of a node's own
  knarr explain outside http://192.0.2.5:30007            from another machine; to a load-balancer IP, through the front
  knarr explain outside/203.0.113.9 https://192.0.2.200   from one in particular";

#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// `svc/NAME`; or who sends: `pod/NAME`, `node/NAME`, `outside`, `outside/ADDRESS`
    #[arg(value_name = "SVC|FROM")]
    subject: String,
    /// Where to: `http://HOST[:PORT]`, `HOST:PORT`, `HOST:PORT/udp`
    to: Option<String>,
    #[command(flatten)]
    scope: Scope,
    /// How to print
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Json,
}

/// What was asked.
enum Asked {
    Service(String),
    Journey(Question),
}

pub(crate) async fn run(args: Args, settings: &Settings) -> Result<ExitCode> {
    let asked = read(&args)?;
    let client = client::connect(settings)?;
    let explanation = match asked {
        Asked::Service(name) => {
            explain(&gather::facts(&client, &args.scope.namespace, &name, settings).await?)
        }
        Asked::Journey(question) => journey(&client, &question, settings).await?,
    };
    match args.output {
        Some(Output::Json) => println!("{}", serde_json::to_string_pretty(&explanation)?),
        None => print!("{explanation}"),
    }
    Ok(if explanation.routes {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn read(args: &Args) -> Result<Asked> {
    let namespace = &args.scope.namespace;
    if let Some(to) = &args.to {
        let from = Client::parse(&args.subject, namespace).map_err(unreadable)?;
        let to = Destination::parse(to).map_err(unreadable)?;
        return Ok(Asked::Journey(Question { from, to }));
    }
    match args.subject.split_once('/') {
        None => Ok(Asked::Service(args.subject.clone())),
        Some(("svc" | "service" | "services", name)) => Ok(Asked::Service(name.to_owned())),
        Some((kind, _)) => {
            let failure = Failure::new(Code::Unreadable, format!("cannot explain a {kind}"));
            let hint = "name a Service, as in svc/web, or add where a packet should go";
            Err(failure.hint(hint).into())
        }
    }
}

fn unreadable(error: Unreadable) -> Failure {
    Failure::new(Code::Unreadable, &error).hint(error.hint())
}

async fn journey(
    client: &kube::Client,
    question: &Question,
    settings: &Settings,
) -> Result<Explanation> {
    let surroundings = gather::surroundings(client, question, settings).await?;
    let journey = surroundings.travel(question);
    let refusing = gather::refusing(journey.ends()).await;
    Ok(journey.told(&refusing))
}
