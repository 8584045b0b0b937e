//! `hold_head`: the head waits for trailers, for a limited time.

use super::*;

const HELD: std::time::Duration = ms(5);

// R73: 5 ms find trailers that come after 4 ms, and not those that come after 6 ms.
#[tokio::test(start_paused = true)]
async fn trailers_that_come_while_the_head_is_held_are_found() {
    for (after, sends) in [(ms(1), 2), (ms(4), 2), (ms(6), 1)] {
        let server = Server::new([Wait(after), Status("16")]);
        let (client, issuer, _source) = client(&server, |layer| layer.hold_head(HELD)).await;
        issuer.set_latency(ms(0));
        let watch = Stopwatch::start();
        let response = client.oneshot(call()).await.unwrap();
        assert_eq!(watch.read(), after.min(HELD));
        assert_eq!(server.tokens().len(), sends, "{after:?}");
        let status = read(response).await.1;
        assert_eq!(status.as_deref(), Some(if sends == 2 { "0" } else { "16" }));
        settle().await;
        assert_eq!(issuer.requests(), 2, "{after:?}");
    }
}

// R73: an empty message is passed on too. Its trailers are not waited for.
#[tokio::test(start_paused = true)]
async fn a_message_is_passed_on_the_moment_it_comes() {
    for message in [EMPTY_MESSAGE, b"\0\0\0\0\x01m"] {
        let server = Server::new([Wait(ms(3)), Data(message), Wait(ms(1)), Status("16")]);
        let (client, _, _) = client(&server, |layer| layer.hold_head(HELD)).await;
        let watch = Stopwatch::start();
        let mut response = client.oneshot(call()).await.unwrap();
        assert_eq!(watch.read(), ms(3));
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        assert_eq!((frame.into_data().unwrap().as_ref(), watch.read()), (message, ms(3)));
        assert_eq!(read(response).await, (Vec::new(), Some("16".to_owned())));
        assert_eq!(server.tokens().len(), 1);
    }
}

// R36, R73: without timers, the head could be held forever.
#[test]
fn without_timers_the_head_is_not_held() {
    let source = TokenSource::new(Issuer::new());
    let with_timers = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    with_timers.block_on(source.warm_up()).unwrap();
    let without = tokio::runtime::Builder::new_current_thread().build().unwrap();
    without.block_on(async {
        let layer = source.layer().allow_origin(API).unwrap().bodies(Cloned);
        let server = Server::new(vec![Pending; 1_000]);
        let inner = server.clone();
        let client =
            grpc::layer(layer).hold_head(HELD).layer(service_fn(move |request| inner.clone().respond(request)));
        client.oneshot(call()).await.unwrap();
        assert_eq!(server.first_body().0, 1);
    });
}

// R73: a future that is dropped while it holds the head drops the body, and rejects nothing.
#[tokio::test(start_paused = true)]
async fn a_call_that_is_cancelled_while_its_head_is_held_has_no_effect() {
    let server = Server::new([Wait(ms(4)), Status("16")]);
    let (client, issuer, source) = client(&server, |layer| layer.hold_head(HELD)).await;
    let mut call = task::spawn(client.oneshot(call()));
    assert!(call.poll().is_pending());
    assert_eq!(server.first_body(), (1, false));
    drop(call);
    assert!(server.first_body().1);
    tokio::time::sleep(ms(10)).await;
    assert_eq!((issuer.requests(), source.stats().rejections), (1, 0));
}
