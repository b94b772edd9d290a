//! Plugins, entities and fields of Kong that do not exist here. Messages about them must not suggest a typing
//! error.

/// Kong's plugins, those of the Enterprise edition included.
#[rustfmt::skip]
const PLUGINS: &[&str] = &[
    "acl", "acme", "ace", "ai-aws-guardrails", "ai-azure-content-safety", "ai-gcp-model-armor", "ai-lakera-guard",
    "ai-llm-as-judge", "ai-mcp-oauth2", "ai-mcp-proxy", "ai-a2a-proxy", "ai-prompt-compressor", "ai-prompt-decorator",
    "ai-prompt-guard", "ai-prompt-template", "ai-proxy", "ai-proxy-advanced", "ai-rag-injector",
    "ai-rate-limiting-advanced", "ai-request-transformer", "ai-response-transformer", "ai-sanitizer",
    "ai-semantic-cache", "ai-semantic-prompt-guard", "ai-semantic-response-guard", "app-dynamics",
    "application-registration", "aws-lambda", "azure-functions", "basic-auth", "bot-detection", "canary", "confluent",
    "confluent-consume", "correlation-id", "cors", "datadog", "datakit", "degraphql", "exit-transformer", "file-log",
    "forward-proxy", "graphql-proxy-cache-advanced", "graphql-rate-limiting-advanced", "grpc-gateway", "grpc-web",
    "header-cert-auth", "hmac-auth", "http-log", "injection-protection", "ip-restriction", "jq",
    "json-threat-protection", "jwe-decrypt", "jwt", "jwt-signer", "kafka-consume", "kafka-log", "kafka-upstream",
    "key-auth", "key-auth-enc", "konnect-application-auth", "ldap-auth", "ldap-auth-advanced", "loggly", "metering",
    "metering-and-billing", "mocking", "mtls-auth", "oas-validation", "oauth2", "oauth2-introspection", "opa",
    "openid-connect", "opentelemetry", "openwhisk", "post-function", "pre-function", "prometheus", "proxy-cache",
    "proxy-cache-advanced", "rate-limiting", "rate-limiting-advanced", "redirect", "request-callout",
    "request-size-limiting", "request-termination", "request-transformer", "request-transformer-advanced",
    "request-validator", "response-ratelimiting", "response-transformer", "response-transformer-advanced",
    "route-by-header", "route-transformer-advanced", "saml", "service-protection", "session", "solace-consume",
    "solace-log", "solace-upstream", "standard-webhooks", "statsd", "statsd-advanced", "syslog", "tcp-log",
    "tls-handshake-modifier", "tls-metadata-headers", "udp-log", "upstream-oauth", "upstream-timeout", "vault-auth",
    "websocket-size-limit", "websocket-validator", "xml-threat-protection", "zipkin",
];

/// Entities that Kong's plugins bring, with their plugins.
const ENTITIES_OF_PLUGINS: &[(&str, &str)] = &[
    ("acls", "acl"),
    ("acme_storage", "acme"),
    ("basicauth_credentials", "basic-auth"),
    ("basicauth_brute_force_attempts", "basic-auth"),
    ("degraphql_routes", "degraphql"),
    ("graphql_ratelimiting_advanced_cost_decoration", "graphql-rate-limiting-advanced"),
    ("header_cert_auth_credentials", "header-cert-auth"),
    ("hmacauth_credentials", "hmac-auth"),
    ("jwt_secrets", "jwt"),
    ("jwt_signer_jwks", "jwt-signer"),
    ("keyauth_credentials", "key-auth"),
    ("keyauth_enc_credentials", "key-auth-enc"),
    ("mtls_auth_credentials", "mtls-auth"),
    ("oauth2_authorization_codes", "oauth2"),
    ("oauth2_credentials", "oauth2"),
    ("oauth2_tokens", "oauth2"),
    ("oic_issuers", "openid-connect"),
    ("oic_jwks", "openid-connect"),
    ("ratelimiting_metrics", "rate-limiting"),
    ("sessions", "session"),
    ("session_metadatas", "session"),
    ("vault_auth_vaults", "vault-auth"),
    ("vaults_auth", "vault-auth"),
];

/// Entities of Kong's Enterprise edition.
#[rustfmt::skip]
const ENTERPRISE_ENTITIES: &[&str] = &[
    "admins", "applications", "application_instances", "audit_objects", "audit_requests", "cloned_plugins",
    "consumer_group_overrides", "consumer_group_plugins", "credentials", "custom_plugins", "developers",
    "document_objects", "event_hooks", "files", "group_rbac_roles", "groups", "keyring_keys", "keyring_meta",
    "legacy_files", "licenses", "login_attempts", "partials", "plugins_partials", "rbac_role_endpoints",
    "rbac_role_entities", "rbac_roles", "rbac_user_roles", "rbac_users", "services_apis", "workspace_entities",
    "workspace_entity_counters",
];

/// Fields of Kong's Enterprise edition, with the entity or plugin they are of.
const ENTERPRISE_FIELDS: &[(&str, &str)] = &[
    ("consumers", "type"),
    ("consumers", "partner"),
    ("plugins", "condition"),
    ("plugins", "ordering"),
    ("plugins", "partials"),
    ("routes", "ws_id"),
    ("services", "tls_sans"),
    ("services", "ws_id"),
    ("key_sets", "generator"),
    ("basic-auth", "brute_force_protection"),
    ("jwt", "realm"),
    ("rate-limiting", "throttling"),
];

/// Fields of Kong Enterprise, Konnect or later versions of Kong.
const LATER_FIELDS: &[(&str, &str)] =
    &[("cors", "skip_cors_when_origin_is_empty"), ("http-log", "ssl_verify"), ("vaults", "base64_decode")];

/// The same, of any entity or plugin.
const LATER_FIELDS_ANYWHERE: &[&str] = &["service_packages", "service_package", "cloud_authentication"];

/// Whether Kong has a plugin of this name.
pub(crate) fn is_plugin(name: &str) -> bool {
    PLUGINS.contains(&name)
}

/// The message for a plugin of Kong's that is missing.
pub(crate) fn no_plugin(name: &str) -> String {
    format!("this version does not have Kong's plugin '{name}'")
}

/// The origin of an unsupported list of entities.
pub(crate) fn list(name: &str) -> Option<String> {
    if LATER_FIELDS_ANYWHERE.contains(&name) {
        return Some(format!("'{name}' belongs to Kong Konnect or a later version of Kong"));
    }
    if let Some((_, plugin)) = ENTITIES_OF_PLUGINS.iter().find(|(entity, _)| *entity == name) {
        return Some(format!("'{name}' belongs to Kong's plugin {plugin}, which this version does not have"));
    }
    ENTERPRISE_ENTITIES.contains(&name).then(|| format!("'{name}' belongs to Kong Enterprise"))
}

/// The origin of an unsupported field. `of` is the entity or the plugin.
pub(crate) fn field(of: &str, name: &str) -> Option<String> {
    if ENTERPRISE_FIELDS.contains(&(of, name)) {
        return Some(format!("the field '{name}' belongs to Kong Enterprise"));
    }
    let is_later = LATER_FIELDS.contains(&(of, name)) || LATER_FIELDS_ANYWHERE.contains(&name);
    is_later.then(|| format!("the field '{name}' belongs to Kong Enterprise, Konnect or a later version of Kong"))
}

/// The origin of an unsupported type of vault.
pub(crate) fn vault(name: &str) -> Option<String> {
    (name == "konnect").then(|| "the vault 'konnect' belongs to Kong Konnect; use `env` or `file`".to_owned())
}
