//! Does its work when the schedule says so. The payload is the one of app.yaml.

wit_bindgen::generate!({ generate_all });

use exports::wasmcloud::cron::scheduler::Guest;
use serde_json::Value;

struct Actor;

impl Guest for Actor {
    fn invoke(payload: Vec<u8>) -> Result<(), String> {
        let job: Value = serde_json::from_slice(&payload)
            .map_err(|error| format!("the payload is not JSON: {error}"))?;
        println!("it is time for {job}");
        Ok(())
    }
}

export!(Actor);
