//! Answers HTTP.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

struct Actor;

impl Guest for Actor {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        answer(response_out, "hello from {{name}}\n");
    }
}

wasip2::http::proxy::export!(Actor);

fn answer(response_out: ResponseOutparam, text: &str) {
    let headers = Fields::new();
    headers
        .append("content-type", b"text/plain; charset=utf-8")
        .expect("a header that may be set");
    let response = OutgoingResponse::new(headers);
    let body = response.body().expect("the first to ask for it");
    ResponseOutparam::set(response_out, Ok(response));
    let stream = body.write().expect("the first to ask for it");
    for part in text.as_bytes().chunks(4096) {
        // what one call takes at most
        stream
            .blocking_write_and_flush(part)
            .expect("a client that reads");
    }
    drop(stream);
    OutgoingBody::finish(body, None).expect("a whole body");
}
