-- A made-up dump of Supabase's auth.users, in the column layout of August 2026 (supabase/auth).
-- People and passwords are invented:
--   Ana.Silva@Example.com    lake tulip harbour
--   chen.wei@example.org     quiet meadow lantern    has not confirmed the address
--   deepa.rao@example.com    none: signs in with Google
--   ana.silva@example.com    none: SSO, a second account with Ana's address
--   Farid.Aziz@Example.org   copper window island    banned
--   A deleted account, an anonymous one, and one with a phone number (velvet comet orchard).
CREATE SCHEMA auth;

CREATE TABLE auth.users (
    instance_id uuid,
    id uuid NOT NULL,
    aud character varying(255),
    role character varying(255),
    email character varying(255),
    encrypted_password character varying(255),
    email_confirmed_at timestamp with time zone,
    invited_at timestamp with time zone,
    confirmation_token character varying(255),
    confirmation_sent_at timestamp with time zone,
    recovery_token character varying(255),
    recovery_sent_at timestamp with time zone,
    email_change_token_new character varying(255),
    email_change character varying(255),
    email_change_sent_at timestamp with time zone,
    last_sign_in_at timestamp with time zone,
    raw_app_meta_data jsonb,
    raw_user_meta_data jsonb,
    is_super_admin boolean,
    created_at timestamp with time zone,
    updated_at timestamp with time zone,
    phone text DEFAULT NULL::character varying,
    phone_confirmed_at timestamp with time zone,
    phone_change text DEFAULT ''::character varying,
    phone_change_token character varying(255) DEFAULT ''::character varying,
    phone_change_sent_at timestamp with time zone,
    confirmed_at timestamp with time zone
        GENERATED ALWAYS AS (LEAST(email_confirmed_at, phone_confirmed_at)) STORED,
    email_change_token_current character varying(255) DEFAULT ''::character varying,
    email_change_confirm_status smallint DEFAULT 0,
    banned_until timestamp with time zone,
    reauthentication_token character varying(255) DEFAULT ''::character varying,
    reauthentication_sent_at timestamp with time zone,
    is_sso_user boolean DEFAULT false NOT NULL,
    deleted_at timestamp with time zone,
    is_anonymous boolean DEFAULT false NOT NULL,
    CONSTRAINT users_pkey PRIMARY KEY (id),
    CONSTRAINT users_phone_key UNIQUE (phone),
    CONSTRAINT users_email_change_confirm_status_check
        CHECK (((email_change_confirm_status >= 0) AND (email_change_confirm_status <= 2)))
);

CREATE UNIQUE INDEX users_email_partial_key ON auth.users USING btree (email) WHERE (is_sso_user = false);

INSERT INTO auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at,
    confirmation_token, last_sign_in_at, raw_app_meta_data, raw_user_meta_data, created_at, updated_at,
    phone, phone_confirmed_at, banned_until, is_sso_user, deleted_at, is_anonymous)
VALUES
    ('00000000-0000-0000-0000-000000000000', '7d1f4f0e-5b7a-4c55-9b1e-0c3f6a2d9e01', 'authenticated', 'authenticated',
        'Ana.Silva@Example.com', '$2a$05$G4MHReylyCC59q9HbED6YOf9cONfXknJEcMUTZDYyvfz8BzHQH5Ya',
        '2022-03-05 09:14:22.481937+00', '', '2024-08-01 07:30:00.118+00',
        '{"provider": "email", "providers": ["email"], "roles": ["moderator"]}',
        '{"name": "Ana Silva", "email_verified": true}', '2022-03-05 09:12:03.104512+00', '2024-08-01 07:30:00.118+00',
        NULL, NULL, NULL, false, NULL, false),
    ('00000000-0000-0000-0000-000000000000', '2c9a7b64-1f0d-4d3b-8a55-6e0b1c7f4a02', 'authenticated', 'authenticated',
        'chen.wei@example.org', '$2a$04$u0vk2xZCx/of.NiH1illLeJd/QRyejA9myg8m8EfQBaqhVsGwyIf2',
        NULL, '2f6c1d0b9a8e7f5d4c3b2a190817263544332211aabbccddeeff0011', NULL,
        '{"provider": "email", "providers": ["email"]}',
        '{"name": "Chen Wei", "email_verified": false}', '2024-07-30 22:01:45.9+00', '2024-07-30 22:01:45.9+00',
        NULL, NULL, NULL, false, NULL, false),
    ('00000000-0000-0000-0000-000000000000', 'e4b8d2c1-93a6-4f7e-b0d4-5a1c8f2e7b03', 'authenticated', 'authenticated',
        'deepa.rao@example.com', '',
        '2023-01-17 16:40:09+00', '', '2024-07-28 11:05:31+00',
        '{"provider": "google", "providers": ["google"]}',
        '{"name": "Deepa \"DR\" Rao", "email_verified": true}', '2023-01-17 16:40:09+00', '2024-07-28 11:05:31+00',
        NULL, NULL, NULL, false, NULL, false),
    ('00000000-0000-0000-0000-000000000000', '91f3c7a8-0e2b-4b6d-a9c1-7d4e5f6a8b04', 'authenticated', 'authenticated',
        'ana.silva@example.com', NULL,
        '2023-11-03 08:00:00+00', '', '2024-07-31 06:59:12+00',
        '{"provider": "sso:0b0d6c5e-8a57-4d0e-9f55-2f6d6a6f9c11"}',
        '{"name": "Ana Silva"}', '2023-11-03 08:00:00+00', '2024-07-31 06:59:12+00',
        NULL, NULL, NULL, true, NULL, false),
    ('00000000-0000-0000-0000-000000000000', 'b6a5d4c3-2e1f-4a09-8b7c-6d5e4f3a2b05', 'authenticated', 'authenticated',
        'Farid.Aziz@Example.org', '$2a$04$0m4A/DPwSqfUcbzwiHD32eCpfoW8frskOVWjG/E9Ej1h7Ml/zfUSK',
        '2022-09-12 13:37:00+00', '', '2024-05-20 20:20:20+00',
        '{"provider": "email", "providers": ["email"]}',
        '{"name": "Farid Aziz"}', '2022-09-12 13:30:51+00', '2024-05-20 20:20:20+00',
        NULL, NULL, '2124-05-21 00:00:00+00', false, NULL, false),
    ('00000000-0000-0000-0000-000000000000', '0a1b2c3d-4e5f-4061-8293-a4b5c6d7e806', 'authenticated', 'authenticated',
        'Q3Yb8nT0mS5kZ1xW7vR9pL2jH4gF6dA-cE_uIoKyXz0', NULL,
        '2022-06-01 10:00:00+00', '', '2023-02-02 02:02:02+00',
        '{"provider": "email", "providers": ["email"]}',
        '{}', '2022-06-01 09:58:00+00', '2023-02-02 02:02:02+00',
        NULL, NULL, NULL, false, '2023-02-03 12:00:00+00', false),
    ('00000000-0000-0000-0000-000000000000', '5f6e7d8c-9b0a-4c1d-ae2f-3b4c5d6e7f07', 'authenticated', 'authenticated',
        NULL, NULL,
        NULL, '', '2024-08-02 18:45:10+00',
        '{}',
        '{}', '2024-08-02 18:45:10+00', '2024-08-02 18:45:10+00',
        NULL, NULL, NULL, false, NULL, true),
    ('00000000-0000-0000-0000-000000000000', 'c0ffee00-1234-4abc-9def-0123456789ab', 'authenticated', 'authenticated',
        NULL, '$2a$04$YM1Py55bT/LeUUSkH7Oa7.Vqo9FPhwGlIXSAXWFdhN5qTzHKl884q',
        NULL, '', '2024-06-15 12:00:00+00',
        '{"provider": "phone", "providers": ["phone"]}',
        '{"phone_verified": true}', '2024-06-15 11:59:30+00', '2024-06-15 12:00:00+00',
        '15550100', '2024-06-15 12:00:00+00', NULL, false, NULL, false);
