//! A server that follows a script shows each answer at each command, and silence. Time is paused
//! when it is silent: the limits pass at once.

use std::{collections::VecDeque, time::SystemTime};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::Instant,
};

use super::*;
use crate::render::Purpose;

const GREETING: &str = "220 ready\r\n";
const OK: &str = "250 ok\r\n";
const GO_ON: &str = "354 go on\r\n";

/// The answers to EHLO, MAIL, RCPT, DATA and the content.
const ALL: [&str; 6] = [GREETING, OK, OK, OK, GO_ON, OK];

/// The answers of each connection, the greeting included. Behind the last one, the server is
/// silent, or closes the connection if that is "".
async fn serve(listener: TcpListener, connections: Vec<Vec<&'static str>>) {
    for answers in connections {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, answers.into()));
    }
}

async fn answer(mut stream: TcpStream, mut answers: VecDeque<&'static str>) {
    let mut chunk = vec![0; 64 * 1024];
    while let Some(answer) = answers.pop_front() {
        if answer.is_empty() {
            return;
        }
        stream.write_all(answer.as_bytes()).await.unwrap();
        let Ok(length @ 1..) = stream.read(&mut chunk).await else {
            return;
        };
        // The loopback interface keeps the bounds of short writes.
        let is_whole = chunk[..length].ends_with(b"\r\n.\r\n");
        assert!(answer != GO_ON || is_whole, "the content came in parts");
    }
    tokio::time::pause();
    std::future::pending::<()>().await;
}

async fn sender(connections: Vec<Vec<&'static str>>) -> Sender {
    sender_as("", connections).await
}

/// The login has an at sign behind it.
async fn sender_as(login: &str, connections: Vec<Vec<&'static str>>) -> Sender {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = settings::Smtp {
        url: format!("smtp://{login}{}", listener.local_addr().unwrap()),
        from: "no-reply@realchat.example".parse().unwrap(),
    };
    tokio::spawn(serve(listener, connections));
    Sender::new(&settings).unwrap()
}

async fn send_to(sender: &Sender, email: &str) -> Result<Sent, Failed> {
    let mail = Mail {
        request_id: "id".to_owned(),
        purpose: Purpose::ResetPassword,
        email: email.to_owned(),
        token: "rcm_a-token".to_owned(),
        expires_at: SystemTime::now(),
        locale: String::new(),
    };
    let rendered = Rendered {
        subject: "subject".to_owned(),
        text: ".a line with a dot\r\n".repeat(100),
        html: "<p>text</p>".to_owned(),
    };
    let connection = sender.connect().await?;
    sender.send(connection, &mail, rendered).await
}

async fn send(answers: &[&'static str]) -> Result<Sent, Failed> {
    let sender = sender(vec![answers.to_vec()]).await;
    send_to(&sender, "ana@example.com").await
}

/// All commands are answered well, but this one.
async fn send_with(number: usize, answer: &'static str) -> Result<Sent, Failed> {
    let mut answers = ALL;
    answers[number] = answer;
    send(&answers).await
}

#[tokio::test]
async fn a_server_that_is_silent_is_left_at_the_limit() {
    for answered in 0..5 {
        let start = Instant::now();
        let failed = send(&ALL[..answered]).await.unwrap_err();
        assert!(matches!(failed, Failed::Late), "{answered}: {failed}");
        assert!(start.elapsed() < 2 * LIMIT, "{answered}");
        tokio::time::resume();
    }
}

#[tokio::test]
async fn the_answer_to_the_content_has_ten_minutes() {
    let start = Instant::now();
    assert_eq!(send(&ALL[..5]).await.unwrap(), Sent::Unanswered);
    assert!(start.elapsed() >= CONTENT_LIMIT);
}

#[tokio::test]
async fn a_connection_that_ends_is_a_fault_until_the_content_was_sent() {
    for number in 0..5 {
        assert!(send_with(number, "").await.is_err(), "{number}");
    }
    assert_eq!(send_with(5, "").await.unwrap(), Sent::Unanswered);
}

#[tokio::test]
async fn only_what_is_about_the_recipient_is_final() {
    let refused = Sent::Refused("it answered 550".to_owned());
    for words in ["550 5.1.1 no such user\r\n", "550 5.2.1 disabled\r\n"] {
        assert_eq!(send_with(3, words).await.unwrap(), refused);
        assert_eq!(send_with(5, words).await.unwrap(), refused);
    }
    for (number, answer) in [
        (0, "554 5.7.1 go away\r\n"),
        (1, "554 5.7.1 go away\r\n"),
        (2, "550 5.1.7 unknown sender\r\n"),
        (2, "452 4.3.1 disk full\r\n"),
        (3, "421 4.3.2 shutting down\r\n"),
        (4, "554 5.7.1 no\r\n"),
        (5, "554 5.7.1 spam\r\n"),
        (5, "550 5.1.8 sender's domain\r\n"),
        (5, "451 4.3.0 later\r\n"),
    ] {
        assert!(
            send_with(number, answer).await.is_err(),
            "{number} {answer}"
        );
    }
}

#[tokio::test]
async fn a_recipient_that_is_not_taken_now_is_put_off() {
    for (answer, code) in [
        ("450 4.2.1 greylisted\r\n", 450),
        ("451 4.1.1 who is that\r\n", 451),
        ("550 who is that\r\n", 550),
        ("554 5.7.1 relay access denied\r\n", 554),
        ("550 5.1.8 sender's domain\r\n", 550),
    ] {
        let sent = send_with(3, answer).await.unwrap();
        assert_eq!(sent, Sent::PutOff(code), "{answer}");
    }
}

#[tokio::test]
async fn a_login_that_fails_is_a_fault() {
    let greeting = [GREETING, "250-me\r\n250 AUTH PLAIN\r\n"];
    for (login, is_good) in [("235 5.7.0 hello\r\n", true), ("535 5.7.8 no\r\n", false)] {
        let answers = [&greeting, &[login][..], &ALL[2..]].concat();
        let sender = sender_as("user:password@", vec![answers]).await;
        let sent = send_to(&sender, "ana@example.com").await;
        assert_eq!(sent.is_ok(), is_good, "{login}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let again = [OK, OK, OK, GO_ON, OK]; // RSET comes first
    let put_off = [GREETING, OK, OK, "450 later\r\n"];
    let sender = sender(vec![[&put_off[..], &again[..]].concat()]).await;
    let sent = send_to(&sender, "ana@example.com").await.unwrap();
    assert_eq!(sent, Sent::PutOff(450));
    let sent = send_to(&sender, "bob@example.com").await.unwrap();
    assert_eq!(sent, Sent::Taken);
}

#[tokio::test]
async fn a_kept_connection_that_has_ended_is_replaced() {
    let ended = [&ALL[..], &[""]].concat();
    let sender = sender(vec![ended, ALL.to_vec()]).await;
    for _ in 0..2 {
        let sent = send_to(&sender, "ana@example.com").await.unwrap();
        assert_eq!(sent, Sent::Taken);
    }
}

#[tokio::test]
async fn an_address_that_is_not_ascii_needs_smtputf8() {
    let sender = sender(vec![ALL.to_vec()]).await;
    let sent = send_to(&sender, "änne@example.com").await.unwrap();
    assert_eq!(sent, Sent::Refused("the server lacks SMTPUTF8".to_owned()));
    let answers = [GREETING, "250-me\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n"];
    let sender = self::sender(vec![[&answers, &ALL[2..]].concat()]).await;
    let sent = send_to(&sender, "änne@example.com").await.unwrap();
    assert_eq!(sent, Sent::Taken);
}
