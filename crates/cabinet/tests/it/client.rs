//! The least client that a test needs.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use solana_address::Address;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{Message, VersionedMessage};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

pub(crate) const SOL: u64 = 1_000_000_000;

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    agent: ureq::Agent,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .build();
        Self {
            url: url.into(),
            agent: agent.into(),
        }
    }

    /// Posts a body as it is.
    pub(crate) fn post(&self, body: &str) -> Result<String, ureq::Error> {
        self.agent
            .post(&self.url)
            .send(body)?
            .body_mut()
            .read_to_string()
    }

    /// Posts a body as it is, for the status alone.
    pub(crate) fn status(&self, body: &str) -> Result<u16, ureq::Error> {
        Ok(self.agent.post(&self.url).send(body)?.status().as_u16())
    }

    /// The result, or the error; a server that is gone is an error without a code.
    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let text = self
            .post(&body.to_string())
            .map_err(|error| json!(error.to_string()))?;
        let mut answer: Value = serde_json::from_str(&text).unwrap();
        match answer.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(answer["result"].take()),
        }
    }

    /// A signed transaction, not sent yet.
    pub(crate) fn sign(
        &self,
        instructions: &[Instruction],
        signers: &[&Keypair],
    ) -> Result<VersionedTransaction, Value> {
        let latest = self.call("getLatestBlockhash", json!([{ "commitment": "processed" }]))?;
        let hash = latest["value"]["blockhash"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let payer = signers[0].pubkey();
        let message = Message::new_with_blockhash(instructions, Some(&payer), &hash);
        Ok(VersionedTransaction::try_new(VersionedMessage::Legacy(message), signers).unwrap())
    }

    /// Sends, and returns the signature when the transaction has run.
    pub(crate) fn send_signed(&self, transaction: &VersionedTransaction) -> Result<String, Value> {
        let wire = STANDARD.encode(bincode::serialize(transaction).unwrap());
        let answer = self.call("sendTransaction", json!([wire, { "encoding": "base64" }]))?;
        Ok(answer.as_str().unwrap().into())
    }

    pub(crate) fn send(
        &self,
        instructions: &[Instruction],
        signers: &[&Keypair],
    ) -> Result<String, Value> {
        self.send_signed(&self.sign(instructions, signers)?)
    }

    /// Sends, and waits until no crash takes it back.
    pub(crate) fn confirm(&self, instructions: &[Instruction], signers: &[&Keypair]) {
        let signature = self.send(instructions, signers).unwrap();
        until("a confirmation", || self.is_final(&signature).unwrap());
    }

    pub(crate) fn is_final(&self, signature: &str) -> Result<bool, Value> {
        let statuses = self.call("getSignatureStatuses", json!([[signature]]))?;
        Ok(statuses["value"][0]["confirmationStatus"] == "finalized")
    }

    /// A new key with lamports.
    pub(crate) fn rich(&self, lamports: u64) -> Keypair {
        let key = Keypair::new();
        let signature = self
            .call(
                "requestAirdrop",
                json!([key.pubkey().to_string(), lamports]),
            )
            .unwrap();
        until("an airdrop", || {
            self.is_final(signature.as_str().unwrap()).unwrap()
        });
        key
    }

    /// Owner and data of an account, as it is now.
    pub(crate) fn account(&self, address: &Address) -> Option<(String, Vec<u8>)> {
        let options = json!({ "encoding": "base64", "commitment": "processed" });
        let answer = self
            .call("getAccountInfo", json!([address.to_string(), options]))
            .unwrap();
        let value = &answer["value"];
        let data = STANDARD.decode(value["data"][0].as_str()?).unwrap();
        Some((value["owner"].as_str()?.into(), data))
    }

    pub(crate) fn lamports(&self, address: &Address) -> u64 {
        let options = json!({ "commitment": "processed" });
        let answer = self
            .call("getBalance", json!([address.to_string(), options]))
            .unwrap();
        answer["value"].as_u64().unwrap()
    }

    /// What a rollup says of itself.
    pub(crate) fn state(&self) -> Value {
        self.call("getRollupState", json!([])).unwrap()
    }
}

/// Waits until `look` says so.
pub(crate) fn until(what: &str, mut look: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !look() {
        assert!(Instant::now() < end, "waited half a minute for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
