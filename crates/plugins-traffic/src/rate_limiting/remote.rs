//! Counters in a Redis server, under the keys that Kong uses.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use cardinal_sdk::rate::{Limits, PERIODS, Period, Usage, is_used_up, limited};
use cardinal_sdk::redis::{RedisCall, RedisReply, RedisScript, RedisServer, RedisSettings};
use cardinal_sdk::{BuildError, Services};
use serde_json::Value;

use super::filter::Scope;
use super::mirror::{Mirror, Need};

/// Counts once more and answers how often it was counted before. The key expires with its window.
const COUNT: &str = "local n = redis.call('INCR', KEYS[1]) \
    if n == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end \
    return n - 1";

pub(super) struct Remote {
    server: Arc<dyn RedisServer>,
    count: Arc<RedisScript>,
    /// Set when counts are exchanged at intervals.
    mirror: Option<(Arc<Mirror>, Duration)>,
    scope: Scope,
    limits: Limits,
    sliding: bool,
}

impl Remote {
    pub(super) fn build(
        config: &Value,
        services: &Services,
        scope: Scope,
        limits: Limits,
        sliding: bool,
    ) -> Result<Self, BuildError> {
        let record = config.get("redis").unwrap_or(&Value::Null);
        let settings = RedisSettings::from_config(record)
            .map_err(|(field, message)| BuildError::new(format!("config.redis.{field}"), message))?;
        let server = services.redis.server(&settings);
        let rate = config.get("sync_rate").and_then(Value::as_f64).filter(|rate| *rate > 0.0);
        let mirror = match rate.map(Duration::try_from_secs_f64) {
            None => None,
            Some(Ok(rate)) => Some((Mirror::shared(services, settings, &server), rate)),
            Some(Err(_)) => return Err(BuildError::new("config.sync_rate", "is too long")),
        };
        Ok(Self { server, count: RedisScript::new(COUNT), mirror, scope, limits, sliding })
    }

    /// How often the identifier was counted in each limited period before, this request not included.
    pub(super) async fn count(&self, identifier: &[u8], now: u64) -> Result<Usage, String> {
        match &self.mirror {
            None => self.count_at_server(identifier, now).await,
            Some((mirror, rate)) => self.count_here(mirror, *rate, identifier, now).await,
        }
    }

    async fn count_at_server(&self, identifier: &[u8], now: u64) -> Result<Usage, String> {
        let mut call = RedisCall::new();
        for (_, period, _) in limited(&self.limits) {
            let start = period.start(now);
            let key = self.key(identifier, period, start);
            call.script(&self.count, &[key]).integer(self.lifetime(period));
            if self.sliding {
                call.command("GET").arg(self.key(identifier, period, period.previous(start)));
            }
        }
        let mut counts = counts(&*self.server, call).await?.into_iter();
        let mut usage = [0; PERIODS];
        for (at, period, _) in limited(&self.limits) {
            let used = counts.next().unwrap_or(0);
            let before = if self.sliding { period.share(counts.next().unwrap_or(0), now) } else { 0 };
            if let Some(place) = usage.get_mut(at) {
                *place = used + before;
            }
        }
        Ok(usage)
    }

    async fn count_here(
        &self,
        mirror: &Arc<Mirror>,
        rate: Duration,
        identifier: &[u8],
        now: u64,
    ) -> Result<Usage, String> {
        let needs: Vec<Need> = limited(&self.limits).flat_map(|limit| self.needs(identifier, limit.1, now)).collect();
        let mut counts = mirror.read(&needs, now).await?.into_iter();
        let mut usage = [0; PERIODS];
        for (at, period, _) in limited(&self.limits) {
            let used = counts.next().unwrap_or(0);
            let before = if self.sliding { period.share(counts.next().unwrap_or(0), now) } else { 0 };
            if let Some(place) = usage.get_mut(at) {
                *place = used + before;
            }
        }
        if !is_used_up(&self.limits, &usage) {
            let current = needs.into_iter().filter(|need| !need.past);
            mirror.add(current, rate);
        }
        Ok(usage)
    }

    /// The counter of the period, and of the one before when windows slide.
    fn needs(&self, identifier: &[u8], period: Period, now: u64) -> impl Iterator<Item = Need> {
        let start = period.start(now);
        let need = |start: u64, past: bool| Need {
            key: self.key(identifier, period, start),
            expires: start + self.lifetime(period),
            past,
        };
        let previous = self.sliding.then(|| need(period.previous(start), true));
        std::iter::once(need(start, false)).chain(previous)
    }

    /// Seconds that a counter is kept for: its window, and the next one when windows slide.
    fn lifetime(&self, period: Period) -> u64 {
        let longest = match period {
            Period::Month | Period::Year => period.nominal() + 86_400,
            Period::Second | Period::Minute | Period::Hour | Period::Day => period.nominal(),
        };
        if self.sliding { longest * 2 } else { longest }
    }

    fn key(&self, identifier: &[u8], period: Period, start: u64) -> Vec<u8> {
        let mut key = Vec::with_capacity(160);
        // Writing to a vector does not fail.
        write!(key, "ratelimit:{}:{}:", self.scope.route, self.scope.service).unwrap_or_default();
        key.extend_from_slice(identifier);
        write!(key, ":{}:{}", start * 1_000, period.name()).unwrap_or_default();
        key
    }
}

/// Sends commands that reply with counts, or with nothing for a counter that does not exist.
pub(super) async fn counts(server: &dyn RedisServer, call: RedisCall) -> Result<Vec<u64>, String> {
    // A request that is counted twice does less harm than one that is refused because of a lost connection.
    let replies = server.call(call.repeatable()).await;
    let count = |reply: RedisReply| Ok(reply.integer()?.unwrap_or(0).max(0).unsigned_abs());
    let counts = replies.and_then(|replies| replies.into_iter().map(count).collect());
    counts.map_err(|error| format!("redis {}: {error}", server.name()))
}
