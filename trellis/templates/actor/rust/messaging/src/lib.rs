//! Answers messages, in upper case.

wit_bindgen::generate!({ generate_all });

use exports::wasmcloud::messaging::handler::Guest;
use wasmcloud::messaging::consumer;
use wasmcloud::messaging::types::BrokerMessage;

struct Actor;

impl Guest for Actor {
    fn handle_message(msg: BrokerMessage) -> Result<(), String> {
        let Some(subject) = msg.reply_to else {
            return Ok(());
        };
        consumer::publish(&BrokerMessage {
            subject,
            body: msg.body.to_ascii_uppercase(),
            reply_to: None,
        })
    }
}

export!(Actor);
