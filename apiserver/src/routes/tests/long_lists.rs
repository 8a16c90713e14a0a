//! Lists that are made while they are read, beside the same lists made whole.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use knarr_api::kinds::configmap::CONFIG_MAP;

use super::*;
use crate::storage::Key;

const MAPS: usize = 150;
/// Together far beyond what is put together before it is sent, and ten of them far below.
const MAP_BYTES: usize = 8 << 10;
const PAGE: usize = 10;
const TABLE: &str = "application/json;as=Table;g=meta.k8s.io;v=v1";
const METADATA: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

fn map(number: usize, change: u64) -> Value {
    json!({
        "metadata": { "name": format!("map-{number:03}"), "labels": { "number": number.to_string() } },
        "data": { "text": "\"],\n: x".repeat(MAP_BYTES / 8), "change": change.to_string() },
    })
}

async fn world() -> World {
    let world = World::new().await;
    for number in 0..MAPS {
        let made = world.post(CONFIG_MAPS, map(number, 0)).await;
        assert_eq!(made.code, StatusCode::CREATED, "{}", made.message());
    }
    world
}

async fn body(world: &World, query: &str, accept: &str) -> Body {
    let request = Request::get(format!("{CONFIG_MAPS}{query}")).header(header::ACCEPT, accept);
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(world.user.clone());
    let response = world.server.router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{query}");
    response.into_body()
}

async fn rest(body: Body) -> String {
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn text(world: &World, query: &str, accept: &str) -> String {
    rest(body(world, query, accept).await).await
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// The same list by pages that are small enough to be made whole.
async fn pages(world: &World, query: &str, accept: &str) -> Vec<String> {
    let mut pages = Vec::new();
    let mut token = String::new();
    loop {
        let query = format!("?limit={PAGE}&continue={token}&{query}");
        let page = text(world, &query, accept).await;
        let next = parsed(&page)["metadata"]["continue"]
            .as_str()
            .map(str::to_owned);
        pages.push(page);
        match next {
            Some(next) if !next.is_empty() => token = next,
            _ => return pages,
        }
    }
}

#[tokio::test]
async fn a_long_list_has_the_bytes_of_a_whole_one() {
    let world = world().await;
    let long = text(&world, "", "application/json").await;
    let pages = pages(&world, "", "application/json").await;
    assert_eq!(pages.len(), MAPS / PAGE);
    let items = |list: &str| {
        let (_, items) = list.split_once(r#""items":["#).unwrap();
        items.strip_suffix("]}\n").unwrap().to_owned()
    };
    let whole: Vec<String> = pages.iter().map(|page| items(page)).collect();
    assert!(items(&long) == whole.join(","));
    let revision = &parsed(&long)["metadata"]["resourceVersion"];
    let head = format!(
        r#"{{"kind":"ConfigMapList","apiVersion":"v1","metadata":{{"resourceVersion":{revision}}},"items":["#
    );
    assert!(long.starts_with(&head), "{}", &long[..200]);
}

/// Items without the last cell of a row, its age: the second list is asked for later.
fn ageless(items: &Value) -> Vec<Value> {
    let mut items = items.as_array().unwrap().clone();
    for cells in items
        .iter_mut()
        .filter_map(|item| item["cells"].as_array_mut())
    {
        cells.pop();
    }
    items
}

#[tokio::test]
async fn a_long_list_has_the_items_of_a_whole_one_in_every_form() {
    let world = world().await;
    for (field, query, accept) in [
        ("items", "", METADATA),
        ("rows", "", TABLE),
        ("rows", "includeObject=Object", TABLE),
        ("rows", "includeObject=None", TABLE),
    ] {
        let long = parsed(&text(&world, &format!("?{query}"), accept).await);
        let pages = pages(&world, query, accept).await;
        let pages: Vec<Value> = pages.iter().map(|page| parsed(page)).collect();
        let of_pages: Vec<Value> = pages
            .iter()
            .flat_map(|page| ageless(&page[field]))
            .collect();
        let of_one = ageless(&long[field]);
        assert_eq!(of_one.len(), MAPS, "{accept} {query}");
        assert!(of_one == of_pages, "{accept} {query}");
        for same in ["kind", "apiVersion", "columnDefinitions"] {
            assert_eq!(long[same], pages[0][same], "{accept} {query}");
        }
    }
    let json = parsed(&text(&world, "", "application/json").await);
    let yaml = text(&world, "", "application/yaml").await;
    assert!(serde_saphyr::from_str::<Value>(&yaml).unwrap() == json);
}

#[tokio::test]
async fn a_long_list_is_of_one_moment_whatever_is_written_meanwhile() {
    let world = world().await;
    let done = AtomicBool::new(false);
    let writes = async {
        let mut change = 0;
        while !done.load(Ordering::Relaxed) {
            let number = change as usize % MAPS;
            change += 1;
            let path = format!("{CONFIG_MAPS}/map-{number:03}");
            assert!(
                world
                    .put(&path, map(number, change))
                    .await
                    .code
                    .is_success()
            );
        }
    };
    let reads = async {
        for _ in 0..5 {
            let mut reading = body(&world, "", "application/json").await;
            let first = reading.frame().await.unwrap().unwrap().into_data().unwrap();
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let list = String::from_utf8(first.to_vec()).unwrap() + &rest(reading).await;
            let revision = parsed(&list)["metadata"]["resourceVersion"].clone();
            let revision = revision.as_str().unwrap();
            let query = format!("?resourceVersionMatch=Exact&resourceVersion={revision}");
            assert!(list == text(&world, &query, "application/json").await);
            tokio::task::yield_now().await;
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(writes, reads);
    let now = parsed(&text(&world, "", "application/json").await);
    assert_ne!(
        now["items"][0]["data"]["change"], "0",
        "nothing was written"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let world = world().await;
    let key = Key::new(&CONFIG_MAP, "shop", format!("map-{:03}", MAPS - 1).as_str());
    let last = world.server.state().store.get(&key).unwrap();
    let before = Arc::strong_count(&last);
    for accept in ["application/json", "application/yaml", TABLE] {
        let mut reading = body(&world, "", accept).await;
        reading.frame().await.unwrap().unwrap();
        assert!(Arc::strong_count(&last) > before, "{accept}");
        drop(reading);
        assert_eq!(Arc::strong_count(&last), before, "{accept}");
    }
}

#[tokio::test]
async fn a_long_page_goes_on_where_it_ended() {
    let world = world().await;
    let whole = parsed(&text(&world, "", "application/json").await);
    let limit = MAPS - 50;
    let first = parsed(&text(&world, &format!("?limit={limit}"), "application/json").await);
    assert_eq!(first["metadata"]["remainingItemCount"], 50);
    world
        .delete(&format!("{CONFIG_MAPS}/map-{limit:03}"), Value::Null)
        .await;
    let token = first["metadata"]["continue"].as_str().unwrap();
    let query = format!("?limit={limit}&continue={token}");
    let second = parsed(&text(&world, &query, "application/json").await);
    assert_eq!(second["metadata"].get("continue"), None);
    let revision = |list: &Value| list["metadata"]["resourceVersion"].clone();
    assert_eq!(revision(&second), revision(&first));
    let [first, second, whole] =
        [&first, &second, &whole].map(|list| list["items"].as_array().unwrap().clone());
    assert!([first, second].concat() == whole);
}
