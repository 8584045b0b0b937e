//! The layer changes nothing of a body.

use std::pin::pin;

use http_body::{Body, SizeHint};

use super::*;

/// Everything that a body says, frame by frame.
fn transcript<B>(body: B) -> Vec<String>
where
    B: Body<Data = Bytes, Error = BoxError>,
{
    let mut body = pin!(body);
    let mut lines = Vec::new();
    let hint = |hint: SizeHint| format!("{}..{:?}", hint.lower(), hint.upper());
    for _ in 0..12 {
        lines.push(format!("{} {}", hint(body.size_hint()), body.is_end_stream()));
        let polled = task::spawn(()).enter(|cx, _| body.as_mut().poll_frame(cx));
        lines.push(match polled {
            // The layer may have polled the body in its place.
            Poll::Pending => {
                lines.pop();
                continue;
            }
            Poll::Ready(None) => "end".to_owned(),
            Poll::Ready(Some(Err(error))) => error.to_string(),
            Poll::Ready(Some(Ok(frame))) => format!("{:?} {:?}", frame.data_ref(), frame.trailers_ref()),
        });
    }
    lines
}

// R73: also the parts that were read ahead.
#[tokio::test(start_paused = true)]
async fn frames_size_hints_and_end_flags_pass_through_unchanged() {
    let cases: [&[Step]; 10] = [
        &[],
        &[Status("0")],
        &[Data(EMPTY_MESSAGE)],
        &[Data(EMPTY_MESSAGE), Status("0")],
        &[Data(b"\0\0\0\0\x01m"), Status("0")],
        &[Data(b"\0\0\0\0\x01m"), Pending, Data(EMPTY_MESSAGE), Status("16")],
        &[Pending, Data(b"one"), Pending, Data(b""), Data(b"three"), Pending, Status("16")],
        &[Data(b"one"), Data(b"two"), Data(b"three"), Status("5")],
        &[Fail, Data(b"after an error")],
        &[Data(EMPTY_MESSAGE), Fail],
    ];
    for steps in cases {
        let server = Server::new(steps);
        let (client, _, _) = client(&server, unchanged).await;
        let response = client.oneshot(call()).await.unwrap();
        let (expected, actual) = (transcript(Script::new(steps.iter().cloned())), transcript(response.into_body()));
        assert_eq!(actual[..expected.len()], expected, "{steps:?}");
    }
}

// R73: the head is passed on at once, whatever comes later.
#[tokio::test(start_paused = true)]
async fn the_head_is_not_held() {
    let server = Server::new([Wait(secs(5)), Data(EMPTY_MESSAGE), Wait(secs(5)), Status("16")]);
    let (client, _, _) = client(&server, unchanged).await;
    let watch = Stopwatch::start();
    let response = client.oneshot(call()).await.unwrap();
    assert_eq!((watch.read(), server.first_body().0), (ms(0), 1));
    assert_eq!(read(response).await, (EMPTY_MESSAGE.to_vec(), Some("16".to_owned())));
    assert_eq!(watch.read(), secs(10));
}

// R73: no more than two polls, so no more than two frames are held.
#[tokio::test(start_paused = true)]
async fn a_body_that_is_ready_at_once_is_polled_twice() {
    let server = Server::new(vec![Data(EMPTY_MESSAGE); 100]);
    let (client, _, _) = client(&server, unchanged).await;
    let response = client.oneshot(call()).await.unwrap();
    assert_eq!(server.first_body(), (2, false));
    drop(response);
    assert_eq!(server.first_body(), (2, true));
}
