use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{ACCEPT, COOKIE};
use http::{HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::{Buffer, MAX_BUFFERS, MAX_COPIED, MAX_HEADERS, MAX_TEXT, SavedHead, UNUSED};

fn unused() -> usize {
    UNUSED.with_borrow(Vec::len)
}

fn text_of(of: impl Fn(&Buffer) -> usize) -> Vec<usize> {
    UNUSED.with_borrow(|unused| unused.iter().map(|buffer| of(buffer)).collect())
}

/// A text of up to `max` characters from `alphabet`.
fn text(rng: &mut fastrand::Rng, alphabet: &str, max: usize) -> String {
    let characters: Vec<char> = alphabet.chars().collect();
    let length = rng.usize(..=max);
    (0..length).filter_map(|_| rng.choice(&characters)).collect()
}

fn random_uri(rng: &mut fastrand::Rng) -> Uri {
    const PATH: &str = "abcXYZ09-._~!$&'()*+,;=:@/%2F{}\u{e4}";
    loop {
        let long = if rng.u8(..) == 0 { 2 * MAX_COPIED } else { 24 };
        let long_host = if rng.u8(..) == 0 { 2 * MAX_COPIED } else { 12 };
        let path = format!("/{}", text(rng, PATH, long));
        let query = if rng.bool() { format!("?{}", text(rng, "a=b&c/?%20|\u{e4}", 12)) } else { String::new() };
        let host = match rng.u8(..4) {
            0 => "api.example.com".to_owned(),
            1 => "[2001:db8::1]:8443".to_owned(),
            2 => format!("user:secret@{}x:80", text(rng, "aB0-.", 8)),
            _ => format!("{}x", text(rng, "aBc09-._~!$&'()*+,;=", long_host)),
        };
        let uri = match rng.u8(..8) {
            0 => "*".to_owned(),
            1 => host,
            2 => format!("http://{host}"),
            3 => format!("ws+unix://{host}{path}{query}"),
            4 => format!("https://{host}{path}{query}"),
            5 => format!("http://{host}{query}"),
            _ => format!("{path}{query}"),
        };
        // Some of these texts are no URIs.
        if let Ok(uri) = uri.parse() {
            return uri;
        }
    }
}

fn random_head(rng: &mut fastrand::Rng) -> Request<()> {
    const NAME: &str = "abcxyzABC019-_.!#$%&'*+^`|~";
    let mut request = Request::new(());
    *request.method_mut() = match rng.u8(..4) {
        0 => Method::GET,
        1 => Method::POST,
        2 => Method::from_bytes(b"PURGE").unwrap(),
        _ => Method::from_bytes(b"A-METHOD-THAT-IS-LONGER-THAN-OTHERS").unwrap(),
    };
    *request.uri_mut() = random_uri(rng);
    *request.version_mut() = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2][rng.usize(..3)];
    for _ in 0..rng.usize(..12) {
        let name = match rng.u8(..4) {
            0 => ACCEPT,
            1 => COOKIE,
            _ => HeaderName::from_bytes(format!("x{}", text(rng, NAME, 20)).as_bytes()).unwrap(),
        };
        let max = if rng.u8(..32) == 0 { 2 * MAX_COPIED } else { 40 };
        // Every byte that a value may contain, also those above ASCII.
        let value: Vec<u8> =
            (0..rng.usize(..=max)).map(|_| rng.u8(..)).filter(|b| *b == 9 || *b > 31 && *b != 127).collect();
        let mut value = HeaderValue::from_bytes(&value).unwrap();
        value.set_sensitive(rng.u8(..8) == 0);
        request.headers_mut().append(name, value);
        if rng.u8(..16) == 0 {
            request.headers_mut().remove(ACCEPT);
        }
    }
    if rng.bool() {
        request.extensions_mut().insert(rng.u64(..));
    }
    request
}

#[test]
fn a_restored_head_equals_the_original() {
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..100_000 {
        let request = random_head(&mut rng);
        let restored = SavedHead::of(&request, None).restore().unwrap();
        let described = format!("round {round}: {request:?}");
        assert_eq!(restored.method(), request.method(), "{described}");
        assert_eq!(restored.version(), request.version(), "{described}");
        assert_eq!(restored.uri(), request.uri(), "{described}");
        // Two URIs with different spellings can be equal.
        assert_eq!(restored.uri().to_string(), request.uri().to_string(), "{described}");
        assert_eq!(restored.uri().clone().into_parts().authority, request.uri().clone().into_parts().authority);
        let headers = |request: &Request<()>| -> Vec<(HeaderName, HeaderValue, bool)> {
            let headers = request.headers().iter();
            headers.map(|(name, value)| (name.clone(), value.clone(), value.is_sensitive())).collect()
        };
        assert_eq!(headers(&restored), headers(&request), "{described}");
        assert_eq!(restored.extensions().get::<u64>(), request.extensions().get::<u64>(), "{described}");
    }
}

fn request_with(value: HeaderValue) -> Request<()> {
    Request::get("/things?key=canary").header("x", value).body(()).unwrap()
}

#[test]
fn nothing_of_a_request_stays_in_an_unused_buffer() {
    let extension = Arc::new(());
    let mut sensitive = HeaderValue::from_static("canary");
    sensitive.set_sensitive(true);
    for value in [HeaderValue::from_static("canary"), sensitive] {
        let mut request = request_with(value);
        request.extensions_mut().insert(Arc::clone(&extension));
        let head = SavedHead::of(&request, None);
        drop(request);
        let text = &head.buffer.as_ref().unwrap().text;
        assert!(text.windows(6).any(|text| text == b"canary"));
        let length = text.len();
        drop(head);
        assert_eq!(Arc::strong_count(&extension), 1);
        let buffer = UNUSED.with_borrow_mut(Vec::pop).unwrap();
        assert!(buffer.text.is_empty() && buffer.headers.is_empty() && buffer.values.is_empty());
        assert!(buffer.uri.is_none() && buffer.path.is_none() && buffer.authority.is_none());
        #[cfg(target_os = "linux")]
        {
            use std::os::unix::fs::FileExt as _;

            // The memory that was written, which the empty vector no longer shows.
            let mut memory = vec![1; length];
            let address = buffer.text.as_ptr().addr() as u64;
            std::fs::File::open("/proc/self/mem").unwrap().read_exact_at(&mut memory, address).unwrap();
            assert_eq!(memory.iter().position(|byte| *byte != 0), None, "{memory:?}");
        }
    }
}

#[test]
fn a_sensitive_or_long_value_is_never_copied_as_text() {
    let mut sensitive = HeaderValue::from_static("sensitive");
    sensitive.set_sensitive(true);
    for (value, is_text) in [
        (sensitive, false),
        (HeaderValue::from_str(&"c".repeat(MAX_COPIED + 1)).unwrap(), false),
        (HeaderValue::from_str(&"c".repeat(MAX_COPIED)).unwrap(), true),
    ] {
        let head = SavedHead::of(&request_with(value.clone()), None);
        let buffer = head.buffer.as_ref().unwrap();
        let found = buffer.text.windows(value.len()).any(|text| text == value.as_bytes());
        assert_eq!((found, buffer.values.len()), (is_text, usize::from(!is_text)), "{} bytes", value.len());
    }
}

#[test]
fn a_long_uri_is_not_copied_as_text() {
    for (authority, path, is_text) in [
        (MAX_COPIED, MAX_COPIED, true),
        (MAX_COPIED + 1, 1, false),
        (1, MAX_COPIED + 1, false),
        (0, MAX_COPIED, true),
        (0, MAX_COPIED + 1, false),
    ] {
        let origin = if authority == 0 { String::new() } else { format!("https://{}", "a".repeat(authority)) };
        let uri: Uri = format!("{origin}/{}", "p".repeat(path - 1)).parse().unwrap();
        let head = SavedHead::of(&Request::get(uri).body(()).unwrap(), None);
        let buffer = head.buffer.as_ref().unwrap();
        let text = if is_text { authority + path } else { 0 };
        assert_eq!((buffer.uri.is_none(), buffer.text.len()), (is_text, text), "{authority} {path}");
    }
}

#[test]
fn a_new_buffer_has_room_for_the_head_of_most_requests() {
    let buffer = Buffer::with_capacity();
    assert_eq!((buffer.text.capacity(), buffer.headers.capacity()), (512, 16));
}

#[test]
fn a_thread_keeps_a_bounded_number_of_buffers_of_a_bounded_size() {
    let request = request_with(HeaderValue::from_static("value"));
    let heads: Vec<_> = (0..2 * MAX_BUFFERS).map(|_| SavedHead::of(&request, None)).collect();
    assert_eq!(unused(), 0);
    drop(heads);
    assert_eq!(unused(), MAX_BUFFERS);

    UNUSED.with_borrow_mut(Vec::clear);
    let mut many = Request::new(());
    for number in 0..MAX_HEADERS + 1 {
        many.headers_mut().append("x", HeaderValue::from(number));
    }
    let mut large = Request::new(());
    for _ in 0..MAX_TEXT / MAX_COPIED + 1 {
        large.headers_mut().append("x", HeaderValue::from_str(&"c".repeat(MAX_COPIED)).unwrap());
    }
    let mut sensitive = Request::new(());
    for number in 0..MAX_HEADERS / 2 + 1 {
        let mut value = HeaderValue::from(number);
        value.set_sensitive(true);
        sensitive.headers_mut().append("x", value);
    }
    for request in [many, large, sensitive] {
        drop(SavedHead::of(&request, None));
        assert_eq!(unused(), 0);
    }
    // A buffer of exactly the limit is kept.
    let mut most = Request::new(());
    for number in 0..MAX_HEADERS {
        most.headers_mut().append("x", HeaderValue::from(number));
    }
    let mut longest = Request::new(());
    // 3.5 KiB, in a buffer of 4 KiB.
    for _ in 0..7 {
        longest.headers_mut().append("x", HeaderValue::from_str(&"c".repeat(MAX_COPIED)).unwrap());
    }
    for request in [most, longest] {
        drop(SavedHead::of(&request, None));
        assert_eq!(unused(), 1);
        UNUSED.with_borrow_mut(Vec::clear);
    }
    // The text of an extension method has no limit, so it is not kept.
    let mut other = Request::new(());
    *other.method_mut() = Method::from_bytes(&[b'X'; 1_000]).unwrap();
    drop(SavedHead::of(&other, None));
    UNUSED.with_borrow(|unused| assert!(unused.iter().all(|buffer| buffer.method == Method::GET)));
    drop(SavedHead::of(&request, None));
    assert!(text_of(|buffer| buffer.text.capacity()).iter().all(|capacity| *capacity <= MAX_TEXT));
}

/// Sends a request of its own when it is dropped.
#[derive(Clone)]
struct SavesInDrop;

impl Drop for SavesInDrop {
    fn drop(&mut self) {
        drop(SavedHead::of(&request_with(HeaderValue::from_static("value")), None));
    }
}

#[test]
fn an_extension_that_sends_a_request_when_it_is_dropped_does_no_harm() {
    let mut request = Request::new(());
    request.extensions_mut().insert(SavesInDrop);
    let head = SavedHead::of(&request, None);
    drop(head);
    let mut head = SavedHead::of(&request, None);
    head.buffer = None;
    drop(request);
    assert!(SavedHead::of(&Request::new(()), None).restore().is_some());
}

/// Saves a head when its thread ends and `UNUSED` is destroyed already.
struct SavesAtTheEnd(Arc<AtomicUsize>);

impl Drop for SavesAtTheEnd {
    fn drop(&mut self) {
        let saved = SavedHead::of(&request_with(HeaderValue::from_static("value")), None);
        self.0.fetch_add(usize::from(saved.restore().is_some()), Ordering::Relaxed);
    }
}

#[test]
fn a_request_can_be_saved_while_its_thread_ends() {
    thread_local!(static LAST: std::cell::RefCell<Option<SavesAtTheEnd>> = const { std::cell::RefCell::new(None) });
    let restored = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&restored);
    std::thread::spawn(move || {
        // Thread-local values are dropped in the order in which they were first used, or in the reverse one.
        LAST.set(Some(SavesAtTheEnd(counter)));
        drop(SavedHead::of(&Request::new(()), None));
    })
    .join()
    .unwrap();
    assert_eq!(restored.load(Ordering::Relaxed), 1);
}
