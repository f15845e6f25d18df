use super::*;

const EMAIL: &str = "rosalind.elsie84@acme.com";

fn is_good(text: &str) -> bool {
    withstands(text, 2, &known_words(EMAIL, &["realchat".to_owned()]))
}

#[test]
fn a_word_with_a_year_digits_or_punctuation_is_guessable() {
    for text in [
        "password",
        "Password1",
        "P@ssw0rd123!",
        "P@$$w0rd!",
        "Passw0rd!2024",
        "Welcome123!",
        "Welcome2024",
        "Letmein2024!!",
        "Admin@123",
        "Football2024!",
        "Dragon1987!",
        "Abc123456!",
        "Summer2026!",
        "Winter2025!",
        "2026Summer!",
        "!Summer2026",
        "Autumn-2025",
        "Spring@2026",
        "$ummer2026",
        "summer_2026",
        "SUMMER2026!",
        "January2026",
        "September2025!",
        "Monday123!",
        "Wednesday2026!",
        "ChangeMe2026!",
        "Pässword123!",
        "Summer01012026",
        "Primavera2026!",
        "Printemps2026!",
        "Verão2026!",
        "Senha@123",
        "Contraseña1!",
        "Login123!",
        "Covid2020!",
        "Iphone15!",
        "Пароль123!",
        "пароль2026",
        "Привет123!",
        "Йцукен123!",
        "Κωδικός123!",
        "pαssword123!", // a Greek letter
        "раssword123!", // two Cyrillic letters
        "Ѕummer2026!",
    ] {
        assert!(!is_good(text), "{text}");
    }
}

#[test]
fn the_product_the_company_and_the_address_are_guessable() {
    for text in [
        "realchat2026",
        "RealChat#1",
        "R3alch@t2026",
        "realchat!2025",
        "Real-Chat-2026",
        "tahclaer2026",
        "realchatrealchat",
        "re@lch@t!!",
        "ＲｅａｌＣｈａｔ２０２６",
        "RealChatUser1",
        "www.realchat.com",
        "chatreal2026",
        "Ilovechat1!",
        "Chatapp123!",
        "Acme2026!!",
        "rosalind.elsie84@acme.com",
        "Rosalind.Elsie",
        "rosalindelsie1",
        "Elsie2026!",
        "RosalindElsie1984!",
        "rosalind.elsie84@acme.com1",
        "Ros@lind123",
    ] {
        assert!(!is_good(text), "{text}");
    }
    for (email, text) in [
        ("γιώργοσ@example.gr", "Γιώργος2026!"),
        ("a@xn--bcher-kva.de", "bücher2026!"),
        ("bob@acme-corp.com", "acmecorp1!"),
        ("bob1@acme.com", "Bob@Acme.com1"),
    ] {
        assert!(!withstands(text, 2, &known_words(email, &[])), "{text}");
    }
    let of_another = |text| withstands(text, 2, &known_words("someone@example.org", &[]));
    assert!(of_another("rosalind.elsie84@acme.com"));
}

#[test]
fn runs_repetitions_and_reversed_words_are_guessable() {
    for text in [
        "aaaaaaaaaaaa",
        "abcabcabcabc",
        "12345678",
        "87654321!",
        "qwertyuiop",
        "Qwerty123$",
        "1q2w3e4r5t!",
        "1qaz2wsx3edc",
        "!QAZ1qaz",
        "!@#$1234",
        "qwer!@#$",
        "zaq12wsx2026",
        "Summer2026!Summer2026!",
        "passwordpassword1",
        "drowssap123!",
        "01.01.2000!",
        "20260101",
    ] {
        assert!(!is_good(text), "{text}");
    }
}

#[test]
fn passphrases_and_random_text_are_good() {
    for text in [
        "correct horse battery staple",
        "correcthorsebatterystaple",
        "lake tulip harbour",
        "quiet meadow brass lantern",
        "quiet meadow lantern",
        "vK3#qT9z",
        "x7Kq2mWz9LpT",
        "pd7!Hq_2xR&w",
        "trumpet-gravel-92-osprey",
        "Mango4Walrus!Kite",
        "私の好きな食べ物は寿司です",
        "мой дядя самых честных правил",
        "η γάτα κοιμάται ακόμα",
        "सूरज पूरब में उगता है",
        "고양이가 창가에서 잔다",
        "🐙🪁🦑🌵🧲🪗🫎🪼",
    ] {
        assert!(is_good(text), "{text}");
    }
}

#[test]
fn a_long_password_is_checked_by_its_beginning() {
    assert!(!is_good(&("password".repeat(3) + "vK3#qT9z")));
    assert!(!withstands(&"vK3#qT9z".repeat(9), 4, &[]));
    assert!(withstands("vK3#qT9zLw7!pX2m", 4, &[]));
}
