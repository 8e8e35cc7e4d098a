-- The 24 tables of one church. No table names the church: the database is the church.
-- Sealed columns are bytea; *_hash columns are keyed blind indexes (admins' password_hash is bcrypt).

-- The church's own places, people and messages.

CREATE TABLE branches (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    address     text,
    phone       text,
    description text,
    is_active   boolean NOT NULL DEFAULT true,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX branches_is_active_idx ON branches (is_active);

CREATE TABLE members (
    id              text PRIMARY KEY,
    first_name      text NOT NULL,
    last_name       text NOT NULL,
    phone           bytea NOT NULL,
    phone_hash      text,
    encrypted_email bytea,
    email_hash      text,
    opt_in_sms      boolean NOT NULL DEFAULT true,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX members_email_hash_idx ON members (email_hash);
CREATE INDEX members_phone_hash_idx ON members (phone_hash);
CREATE INDEX members_first_name_last_name_idx ON members (first_name, last_name);
CREATE INDEX members_created_at_idx ON members (created_at);

CREATE TABLE messages (
    id               text PRIMARY KEY,
    content          text NOT NULL,
    status           text NOT NULL DEFAULT 'pending',
    target_type      text NOT NULL,
    target_ids       jsonb NOT NULL,
    total_recipients integer NOT NULL DEFAULT 0,
    delivered_count  integer NOT NULL DEFAULT 0,
    failed_count     integer NOT NULL DEFAULT 0,
    sent_at          timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT messages_status_check CHECK (status IN ('pending', 'sent', 'failed')),
    CONSTRAINT messages_target_type_check CHECK (target_type IN ('individual', 'all'))
);
CREATE INDEX messages_status_idx ON messages (status);
CREATE INDEX messages_sent_at_idx ON messages (sent_at);
CREATE INDEX messages_created_at_idx ON messages (created_at);

CREATE TABLE message_recipients (
    id                  text PRIMARY KEY,
    message_id          text NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    member_id           text NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    status              text NOT NULL DEFAULT 'pending',
    provider_message_id text,
    delivered_at        timestamptz,
    failed_at           timestamptz,
    failure_reason      text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT message_recipients_message_id_member_id_key UNIQUE (message_id, member_id),
    CONSTRAINT message_recipients_status_check CHECK (status IN ('pending', 'sent', 'delivered', 'failed'))
);
CREATE INDEX message_recipients_member_id_idx ON message_recipients (member_id);
CREATE INDEX message_recipients_message_id_status_idx ON message_recipients (message_id, status);

CREATE TABLE message_templates (
    id          text PRIMARY KEY,
    name        text NOT NULL,
    content     text NOT NULL,
    category    text NOT NULL,
    is_default  boolean NOT NULL DEFAULT false,
    usage_count integer NOT NULL DEFAULT 0,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT message_templates_category_check CHECK (category IN ('service_reminder', 'event', 'prayer', 'thank_you', 'welcome', 'offering'))
);
CREATE INDEX message_templates_category_idx ON message_templates (category);

CREATE TABLE recurring_messages (
    id           text PRIMARY KEY,
    name         text NOT NULL,
    content      text NOT NULL,
    target_type  text NOT NULL,
    target_ids   jsonb NOT NULL,
    frequency    text NOT NULL,
    day_of_week  integer,
    time_of_day  text,
    next_send_at timestamptz NOT NULL,
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT recurring_messages_target_type_check CHECK (target_type IN ('individual', 'all')),
    CONSTRAINT recurring_messages_frequency_check CHECK (frequency IN ('daily', 'weekly', 'monthly')),
    CONSTRAINT recurring_messages_day_of_week_check CHECK (day_of_week BETWEEN 0 AND 6),
    CONSTRAINT recurring_messages_time_of_day_check CHECK (time_of_day ~ '^([01][0-9]|2[0-3]):[0-5][0-9]$')
);
CREATE INDEX recurring_messages_is_active_idx ON recurring_messages (is_active);
CREATE INDEX recurring_messages_next_send_at_idx ON recurring_messages (next_send_at);

-- Who runs the church's account.

CREATE TABLE admins (
    id                    text PRIMARY KEY,
    email                 bytea NOT NULL,
    encrypted_email       bytea NOT NULL,
    email_hash            text NOT NULL,
    password_hash         text NOT NULL,
    first_name            text NOT NULL,
    last_name             text NOT NULL,
    role                  text NOT NULL,
    invitation_token      text,
    invitation_expires_at timestamptz,
    last_login_at         timestamptz,
    welcome_completed     boolean NOT NULL DEFAULT false,
    user_role             text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT admins_email_hash_key UNIQUE (email_hash),
    CONSTRAINT admins_role_check CHECK (role IN ('PRIMARY', 'CO_ADMIN')),
    CONSTRAINT admins_user_role_check CHECK (user_role IN ('pastor', 'admin', 'communications', 'volunteer', 'other'))
);
CREATE INDEX admins_role_idx ON admins (role);

CREATE TABLE subscriptions (
    id                   text PRIMARY KEY,
    stripe_sub_id        text,
    plan                 text NOT NULL,
    billing_cycle        text NOT NULL,
    status               text NOT NULL,
    current_period_start timestamptz,
    current_period_end   timestamptz,
    cancelled_at         timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT subscriptions_stripe_sub_id_key UNIQUE (stripe_sub_id),
    CONSTRAINT subscriptions_plan_check CHECK (plan IN ('starter', 'growth', 'pro')),
    CONSTRAINT subscriptions_billing_cycle_check CHECK (billing_cycle IN ('monthly', 'annual')),
    CONSTRAINT subscriptions_status_check CHECK (status IN ('active', 'cancelled', 'past_due'))
);
CREATE INDEX subscriptions_plan_idx ON subscriptions (plan);
CREATE INDEX subscriptions_status_idx ON subscriptions (status);

CREATE TABLE planning_center_integrations (
    id                   text PRIMARY KEY,
    organization_id      text NOT NULL,
    access_token         bytea NOT NULL,
    refresh_token        bytea,
    expires_at           timestamptz,
    is_enabled           boolean NOT NULL DEFAULT true,
    member_sync_enabled  boolean NOT NULL DEFAULT true,
    service_sync_enabled boolean NOT NULL DEFAULT false,
    sync_status          text NOT NULL DEFAULT 'pending',
    last_sync_at         timestamptz,
    error_message        text,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT planning_center_integrations_sync_status_check CHECK (sync_status IN ('pending', 'active', 'failed'))
);
CREATE INDEX planning_center_integrations_is_enabled_idx ON planning_center_integrations (is_enabled);
CREATE INDEX planning_center_integrations_sync_status_idx ON planning_center_integrations (sync_status);

-- Two-way conversations with members.

CREATE TABLE conversations (
    id                    text PRIMARY KEY,
    member_id             text NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    last_message_at       timestamptz,
    status                text NOT NULL DEFAULT 'open',
    unread_count          integer NOT NULL DEFAULT 0,
    recipient_rcs_capable boolean NOT NULL DEFAULT false,
    is_typing             boolean NOT NULL DEFAULT false,
    last_typing_at        timestamptz,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT conversations_member_id_key UNIQUE (member_id),
    CONSTRAINT conversations_status_check CHECK (status IN ('open', 'closed', 'archived'))
);
CREATE INDEX conversations_last_message_at_idx ON conversations (last_message_at);
CREATE INDEX conversations_status_idx ON conversations (status);

CREATE TABLE conversation_messages (
    id                  text PRIMARY KEY,
    conversation_id     text NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    member_id           text NOT NULL REFERENCES members (id) ON DELETE CASCADE,
    content             text NOT NULL,
    direction           text NOT NULL,
    provider_message_id text,
    delivery_status     text,
    channel             text NOT NULL,
    rcs_read_at         timestamptz,
    rcs_fallback_reason text,
    reply_to_id         text REFERENCES conversation_messages (id) ON DELETE SET NULL,
    send_effect         text,
    media_url           text,
    media_type          text,
    media_name          text,
    media_size_bytes    bigint,
    media_s3_key        text,
    media_mime_type     text,
    media_width         integer,
    media_height        integer,
    media_duration      integer,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT conversation_messages_direction_check CHECK (direction IN ('inbound', 'outbound')),
    CONSTRAINT conversation_messages_delivery_status_check CHECK (delivery_status IN ('pending', 'delivered', 'failed')),
    CONSTRAINT conversation_messages_channel_check CHECK (channel IN ('sms', 'mms', 'rcs')),
    CONSTRAINT conversation_messages_media_type_check CHECK (media_type IN ('image', 'video', 'audio', 'document'))
);
CREATE INDEX conversation_messages_conversation_id_created_at_idx ON conversation_messages (conversation_id, created_at);
CREATE INDEX conversation_messages_member_id_idx ON conversation_messages (member_id);
CREATE INDEX conversation_messages_provider_message_id_idx ON conversation_messages (provider_message_id);
CREATE INDEX conversation_messages_reply_to_id_idx ON conversation_messages (reply_to_id);

CREATE TABLE message_queue (
    id                      text PRIMARY KEY,
    phone                   bytea NOT NULL,
    content                 text NOT NULL,
    media_s3_url            text,
    conversation_message_id text,
    status                  text NOT NULL DEFAULT 'pending',
    retry_count             integer NOT NULL DEFAULT 0,
    last_error              text,
    sent_at                 timestamptz,
    failed_at               timestamptz,
    created_at              timestamptz NOT NULL DEFAULT now(),
    updated_at              timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT message_queue_status_check CHECK (status IN ('pending', 'sent', 'failed'))
);
CREATE INDEX message_queue_status_idx ON message_queue (status);
CREATE INDEX message_queue_created_at_idx ON message_queue (created_at);

-- What is measured, asked and audited.

CREATE TABLE analytics_events (
    id         text PRIMARY KEY,
    event_name text NOT NULL,
    properties jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX analytics_events_event_name_idx ON analytics_events (event_name);

CREATE TABLE chat_conversations (
    id         text PRIMARY KEY,
    admin_id   text,
    visitor_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX chat_conversations_admin_id_idx ON chat_conversations (admin_id);
CREATE INDEX chat_conversations_visitor_id_idx ON chat_conversations (visitor_id);

CREATE TABLE chat_messages (
    id              text PRIMARY KEY,
    conversation_id text NOT NULL REFERENCES chat_conversations (id) ON DELETE CASCADE,
    role            text NOT NULL,
    content         text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT chat_messages_role_check CHECK (role IN ('user', 'assistant'))
);
CREATE INDEX chat_messages_conversation_id_idx ON chat_messages (conversation_id);

CREATE TABLE agent_audits (
    id               text PRIMARY KEY,
    agent_type       text NOT NULL,
    event_type       text NOT NULL,
    github_pr_number integer,
    github_branch    text,
    status           text NOT NULL,
    findings         jsonb NOT NULL,
    recommendations  jsonb NOT NULL,
    severity         text,
    error            text,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT agent_audits_status_check CHECK (status IN ('success', 'failed')),
    CONSTRAINT agent_audits_severity_check CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info'))
);
CREATE INDEX agent_audits_agent_type_idx ON agent_audits (agent_type);
CREATE INDEX agent_audits_status_idx ON agent_audits (status);
CREATE INDEX agent_audits_created_at_idx ON agent_audits (created_at);

CREATE TABLE consent_logs (
    id         text PRIMARY KEY,
    member_id  text,
    admin_id   text,
    type       text NOT NULL,
    status     text NOT NULL,
    reason     text,
    source     text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT consent_logs_type_check CHECK (type IN ('smsMarketing', 'emailMarketing', 'dataProcessing', 'analytics')),
    CONSTRAINT consent_logs_status_check CHECK (status IN ('granted', 'denied', 'withdrawn')),
    CONSTRAINT consent_logs_source_check CHECK (source IN ('api', 'web_form', 'email_link', 'signup'))
);
CREATE INDEX consent_logs_member_id_idx ON consent_logs (member_id);
CREATE INDEX consent_logs_admin_id_idx ON consent_logs (admin_id);
CREATE INDEX consent_logs_type_idx ON consent_logs (type);
CREATE INDEX consent_logs_created_at_idx ON consent_logs (created_at);

CREATE TABLE account_deletion_requests (
    id                    text PRIMARY KEY,
    initiated_by          text NOT NULL,
    confirmation_token    text NOT NULL,
    status                text NOT NULL DEFAULT 'pending',
    scheduled_deletion_at timestamptz NOT NULL,
    actual_deletion_at    timestamptz,
    reason                text,
    cancelled_at          timestamptz,
    cancelled_by          text,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT account_deletion_requests_confirmation_token_key UNIQUE (confirmation_token),
    CONSTRAINT account_deletion_requests_status_check CHECK (status IN ('pending', 'confirmed', 'cancelled'))
);
CREATE INDEX account_deletion_requests_status_idx ON account_deletion_requests (status);
CREATE INDEX account_deletion_requests_scheduled_deletion_at_idx ON account_deletion_requests (scheduled_deletion_at);

CREATE TABLE data_exports (
    id            text PRIMARY KEY,
    requested_by  text NOT NULL,
    status        text NOT NULL DEFAULT 'pending',
    file_url      text,
    file_size     bigint,
    expires_at    timestamptz NOT NULL,
    error_message text,
    completed_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT data_exports_status_check CHECK (status IN ('pending', 'completed', 'failed', 'expired'))
);
CREATE INDEX data_exports_expires_at_idx ON data_exports (expires_at);
CREATE INDEX data_exports_status_idx ON data_exports (status);

CREATE TABLE admin_mfa (
    id                text PRIMARY KEY,
    admin_id          text NOT NULL REFERENCES admins (id) ON DELETE CASCADE,
    totp_secret       bytea NOT NULL,
    mfa_enabled       boolean NOT NULL DEFAULT false,
    backup_codes_used jsonb NOT NULL,
    enabled_at        timestamptz,
    disabled_at       timestamptz,
    last_verified_at  timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT admin_mfa_admin_id_key UNIQUE (admin_id)
);

CREATE TABLE mfa_recovery_codes (
    id         text PRIMARY KEY,
    admin_id   text NOT NULL REFERENCES admins (id) ON DELETE CASCADE,
    code       text NOT NULL,
    "index"    integer NOT NULL,
    used_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT mfa_recovery_codes_code_key UNIQUE (code),
    CONSTRAINT mfa_recovery_codes_admin_id_index_key UNIQUE (admin_id, "index")
);

CREATE TABLE nps_surveys (
    id             text PRIMARY KEY,
    responder_id   text,
    score          integer NOT NULL,
    category       text NOT NULL,
    feedback       text,
    sentiment      text,
    followup_email bytea,
    followup_sent  boolean NOT NULL DEFAULT false,
    responded_at   timestamptz NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT nps_surveys_score_check CHECK (score BETWEEN 0 AND 10),
    CONSTRAINT nps_surveys_sentiment_check CHECK (sentiment IN ('positive', 'neutral', 'negative'))
);
CREATE INDEX nps_surveys_score_idx ON nps_surveys (score);
CREATE INDEX nps_surveys_category_idx ON nps_surveys (category);
CREATE INDEX nps_surveys_created_at_idx ON nps_surveys (created_at);

CREATE TABLE dead_letters (
    id               text PRIMARY KEY,
    category         text NOT NULL,
    external_id      text,
    original_payload jsonb NOT NULL,
    error_message    text NOT NULL,
    error_stack      text,
    metadata         jsonb,
    status           text NOT NULL DEFAULT 'PENDING',
    retry_count      integer NOT NULL DEFAULT 0,
    first_attempt_at timestamptz NOT NULL,
    last_attempt_at  timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letters_status_check CHECK (status IN ('PENDING', 'RESOLVED', 'DEAD_LETTER'))
);
CREATE INDEX dead_letters_status_idx ON dead_letters (status);
CREATE INDEX dead_letters_category_idx ON dead_letters (category);
CREATE INDEX dead_letters_external_id_idx ON dead_letters (external_id);

CREATE TABLE onboarding_progress (
    id           text PRIMARY KEY,
    task_id      text NOT NULL,
    completed    boolean NOT NULL DEFAULT false,
    completed_at timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT onboarding_progress_task_id_key UNIQUE (task_id),
    CONSTRAINT onboarding_progress_task_id_check CHECK (task_id IN ('create_branch', 'add_members', 'send_message'))
);
