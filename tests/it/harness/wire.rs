//! The statements of a Postgres client, from the bytes that it sends.

use std::{
    collections::HashMap,
    mem::take,
    sync::{Arc, Mutex},
};

/// The statements of all connections, in the order in which they ran.
#[derive(Clone, Default)]
pub struct Statements(Arc<Mutex<Vec<String>>>);

impl Statements {
    /// The statements since the last call.
    pub fn take(&self) -> Vec<String> {
        take(&mut *self.0.lock().unwrap())
    }

    /// Records another connection.
    pub fn recorder(&self) -> Recorder {
        Recorder {
            statements: self.clone(),
            unread: Vec::new(),
            is_started: false,
            prepared: HashMap::new(),
            bound: String::new(),
        }
    }
}

/// One connection, which must not be encrypted.
pub struct Recorder {
    statements: Statements,
    unread: Vec<u8>,
    is_started: bool,
    prepared: HashMap<String, String>,
    bound: String,
}

impl Recorder {
    /// Takes bytes that the client sent.
    pub fn record(&mut self, sent: &[u8]) {
        self.unread.extend_from_slice(sent);
        // The first messages have no type. A request for TLS is followed by another one.
        while !self.is_started {
            let Some(message) = self.next(0) else { return };
            self.is_started = message[..4] != 80_877_103_u32.to_be_bytes();
        }
        while let Some(message) = self.next(1) {
            self.read(&message);
        }
    }

    /// The next complete message, without its length. The type stays before it.
    fn next(&mut self, type_bytes: usize) -> Option<Vec<u8>> {
        let length = self.unread.get(type_bytes..type_bytes + 4)?;
        let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
        let end = type_bytes + usize::try_from(length).expect("a length");
        if self.unread.len() < end {
            return None;
        }
        let mut message: Vec<u8> = self.unread.drain(..end).collect();
        message.drain(type_bytes..type_bytes + 4);
        Some(message)
    }

    fn read(&mut self, message: &[u8]) {
        let (kind, body) = message.split_first().expect("it has a type");
        let text = String::from_utf8_lossy(body);
        let mut texts = text.split('\0').map(str::to_owned);
        let mut next = || texts.next().unwrap_or_default();
        match kind {
            b'Q' => self.ran(next()),
            b'P' => {
                let name = next();
                self.prepared.insert(name, next());
            }
            b'B' => {
                next();
                self.bound = next();
            }
            b'E' => self.ran(self.prepared[&self.bound].clone()),
            _ => {}
        }
    }

    fn ran(&self, statement: String) {
        self.statements.0.lock().unwrap().push(statement);
    }
}
