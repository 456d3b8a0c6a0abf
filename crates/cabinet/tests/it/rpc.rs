//! What clients send that they should not.

use serde_json::{Value, json};

use crate::client::Client;
use crate::process::Process;

fn with_box(test: impl FnOnce(&Client)) {
    let ledger = tempfile::tempdir().unwrap();
    let l1 = Process::l1(ledger.path(), "127.0.0.1:0", None);
    test(&l1.client());
    assert_eq!(l1.client().call("getHealth", json!([])), Ok(json!("ok")));
}

fn code(client: &Client, body: &str) -> Value {
    let answer: Value = serde_json::from_str(&client.post(body).unwrap()).unwrap();
    assert_eq!(answer["jsonrpc"], "2.0");
    assert!(answer["error"]["message"].is_string(), "{answer}");
    answer["error"]["code"].clone()
}

#[test]
fn nonsense_is_answered_with_json_rpc_errors() {
    with_box(|client| {
        for (body, expected) in [
            ("", -32700),
            ("{", -32700),
            ("[]", -32600),
            ("7", -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"getSlot"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, -32600),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"getSlot","params":{}}"#,
                -32600,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"getSlot","params":[7]}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"noSuchMethod"}"#,
                -32601,
            ),
            (r#"{"jsonrpc":"2.0","id":1,"method":"getBalance"}"#, -32602),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"getBalance","params":["!"]}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"sendTransaction","params":["1111"]}"#,
                -32602,
            ),
            (
                r#"{"jsonrpc":"2.0","id":1,"method":"getSlot","params":[{"minContextSlot":999999999999}]}"#,
                -32016,
            ),
        ] {
            assert_eq!(code(client, body), expected, "{body}");
        }
        // Deeply nested JSON is an error like any other.
        let deep = "[".repeat(100_000);
        assert_eq!(code(client, &deep), -32700);
        // A transaction that claims more than it holds.
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sendTransaction",
            "params": ["/////////////////////w==", { "encoding": "base64" }] });
        assert_eq!(code(client, &body.to_string()), -32602);
    });
}

#[test]
fn batches_are_answered_in_order_and_have_an_end() {
    with_box(|client| {
        let one = |id: usize| json!({ "jsonrpc": "2.0", "id": id, "method": "getHealth" });
        let batch: Vec<Value> = (0..100).map(one).collect();
        let answers: Vec<Value> =
            serde_json::from_str(&client.post(&json!(batch).to_string()).unwrap()).unwrap();
        let ids: Vec<u64> = answers
            .iter()
            .map(|answer| answer["id"].as_u64().unwrap())
            .collect();
        assert_eq!(ids, (0..100).collect::<Vec<_>>());
        let batch: Vec<Value> = (0..101).map(one).collect();
        assert_eq!(code(client, &json!(batch).to_string()), -32600);
        // A body without end is not read to its end.
        // The server may close the connection before all of it is sent.
        let refused = client.status(&" ".repeat(1 << 20));
        assert!(matches!(refused, Ok(413) | Err(_)), "{refused:?}");
    });
}

#[test]
fn a_page_in_a_browser_may_ask() {
    with_box(|client| {
        let preflight = ureq::http::Request::builder()
            .method("OPTIONS")
            .uri(&client.url)
            .header("origin", "http://localhost:5173")
            .header(
                "access-control-request-headers",
                "content-type,solana-client",
            )
            .body(())
            .unwrap();
        let agent = ureq::Agent::new_with_defaults();
        let answer = agent.run(preflight).unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*");
        assert_eq!(
            answer.headers()["access-control-allow-headers"],
            "content-type,solana-client"
        );
    });
}
