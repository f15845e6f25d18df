-- A made-up dump of the users of a Rails application with Devise: its modules database_authenticatable,
-- recoverable, rememberable, trackable, confirmable, lockable and omniauthable, without a pepper.
-- People and passwords are invented:
--   ana.silva@example.com        lake tulip harbour
--   Bea.Lindqvist@Example.ORG    quiet meadow lantern
--   carlos.diaz@example.com      copper window island    has not confirmed the address
--   dana.levi@example.com        none: signs in with Google
--   (empty)                      none: signs in with Twitter, which gave no address
--   emil.novak@example.org       violet anchor marble    locked after wrong passwords; address change pending
--   zoë.müller@example.com       crème brûlée tiède      hashed as typed on a Mac: decomposed accents (NFD)
CREATE TABLE users (
    id bigserial NOT NULL,
    email character varying DEFAULT ''::character varying NOT NULL,
    encrypted_password character varying DEFAULT ''::character varying NOT NULL,
    reset_password_token character varying,
    reset_password_sent_at timestamp(6) without time zone,
    remember_created_at timestamp(6) without time zone,
    sign_in_count integer DEFAULT 0 NOT NULL,
    current_sign_in_at timestamp(6) without time zone,
    last_sign_in_at timestamp(6) without time zone,
    current_sign_in_ip inet,
    last_sign_in_ip inet,
    confirmation_token character varying,
    confirmed_at timestamp(6) without time zone,
    confirmation_sent_at timestamp(6) without time zone,
    unconfirmed_email character varying,
    failed_attempts integer DEFAULT 0 NOT NULL,
    unlock_token character varying,
    locked_at timestamp(6) without time zone,
    provider character varying,
    uid character varying,
    created_at timestamp(6) without time zone NOT NULL,
    updated_at timestamp(6) without time zone NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id)
);

CREATE UNIQUE INDEX index_users_on_email ON users USING btree (email);
CREATE UNIQUE INDEX index_users_on_reset_password_token ON users USING btree (reset_password_token);
CREATE UNIQUE INDEX index_users_on_confirmation_token ON users USING btree (confirmation_token);
CREATE UNIQUE INDEX index_users_on_unlock_token ON users USING btree (unlock_token);

INSERT INTO users (id, email, encrypted_password, sign_in_count, last_sign_in_at, last_sign_in_ip,
    confirmation_token, confirmed_at, confirmation_sent_at, unconfirmed_email,
    failed_attempts, unlock_token, locked_at, provider, uid, created_at, updated_at)
VALUES
    (1, 'ana.silva@example.com', '$2a$05$MNmdTyRZSJ011VgMEyJcmed011bHdJ7EUTDw4VznuY0aG1z5S0u5q',
        41, '2024-07-30 08:15:02.123456', '192.0.2.10',
        NULL, '2019-02-11 10:05:44.5', '2019-02-11 10:01:00', NULL,
        0, NULL, NULL, NULL, NULL,
        '2019-02-11 10:01:00.250000', '2024-07-30 08:15:02.123456'),
    (2, 'Bea.Lindqvist@Example.ORG', '$2a$04$rDpms97OsYvWWbgtfThQduiKq5Yfwr6i4pQX/en5TM/L7Luahrusm',
        3, '2021-05-06 19:20:21', '198.51.100.7',
        NULL, '2020-10-01 00:00:00', '2020-09-30 23:50:00', NULL,
        0, NULL, NULL, NULL, NULL,
        '2020-09-30 23:50:00', '2021-05-06 19:20:21'),
    (3, 'carlos.diaz@example.com', '$2a$04$1DpQY6AOC6mMj3xdUALGMer9.RcRlr1PwxtJvC/8G77Qog06RoyCG',
        0, NULL, NULL,
        'b4Jx2sTq8Lk1mWz9VyRf', NULL, '2024-08-01 12:00:00', NULL,
        0, NULL, NULL, NULL, NULL,
        '2024-08-01 12:00:00', '2024-08-01 12:00:00'),
    (5, 'dana.levi@example.com', '',
        12, '2024-07-01 06:00:00', '203.0.113.5',
        NULL, '2022-04-04 04:04:04', NULL, NULL,
        0, NULL, NULL, 'google_oauth2', '108234567890123456789',
        '2022-04-04 04:04:04', '2024-07-01 06:00:00'),
    (6, '', '',
        2, '2022-12-24 17:00:00', '203.0.113.77',
        NULL, NULL, NULL, NULL,
        0, NULL, NULL, 'twitter', '2244994945',
        '2022-12-20 09:30:00', '2022-12-24 17:00:00'),
    (8, 'emil.novak@example.org', '$2a$04$TdYLdBCVB.lo6PuqrjR3I.QD9mjQ8uR7XwkJvPOZb7V4oUShf0IYC',
        7, '2024-07-15 15:15:15', '2001:db8::17',
        'Yc7pQ2vNn5Ht0aKe3uXd', '2021-01-20 08:00:00', '2024-07-16 09:00:00', 'emil@example.net',
        20, 's8Zq1Wd6Bf4Rj9Ty2Mk7', '2024-08-03 03:03:03', NULL, NULL,
        '2021-01-19 21:45:30', '2024-07-15 15:15:15'),
    (9, 'zoë.müller@example.com', '$2a$04$Q3J6iDXXC6P6frlP5ymCEeaEQIQ5NQ4nXdNEYJJqpPwrwq.xbMXFO',
        1, '2023-06-07 08:09:10', '192.0.2.200',
        NULL, '2023-06-07 08:00:00', '2023-06-07 07:59:00', NULL,
        0, NULL, NULL, NULL, NULL,
        '2023-06-07 07:59:00', '2023-06-07 08:09:10');

SELECT pg_catalog.setval('users_id_seq', 9, true);
