//! The scripts. The server runs each of them as one atomic step.
//!
//! Redis 7 caches a script by its text, so `EVAL` does not compile it again. It needs no permission for `SCRIPT`, and a server that
//! restarts needs no second call.
//!
//! `KEYS` are the token, the note and the lease. The value of a token or a note is its version, of 16 bytes, and then its bytes.
//! That of a lease is its owner. A value that is too short, or a key of another type, counts as missing: the next write replaces
//! it. So a single invalid record does not concern other names.

/// The parts of `CLAIM`'s result: which claim it is, the record or nothing, and how many milliseconds are left.
pub(crate) const TOKEN: i64 = 1;
pub(crate) const NOTE: i64 = 2;
pub(crate) const LEASE: i64 = 3;
pub(crate) const WAIT: i64 = 4;

/// `ARGV`: owner, milliseconds of the lease, and the version `seen` or nothing.
///
/// A lease without an expiry would never end, so it does not count.
pub(crate) const CLAIM: &str = r"
local function get(key)
  local value = redis.pcall('GET', key)
  if type(value) == 'string' and #value >= 16 then return value end
end
local function seen(value)
  return string.sub(value, 1, 16) == ARGV[3]
end
local note = get(KEYS[2])
if not (note and seen(note)) then
  local token = get(KEYS[1])
  if token and not seen(token) then return {1, token, redis.call('PTTL', KEYS[1])} end
  if note then return {2, note, redis.call('PTTL', KEYS[2])} end
end
local owner = get(KEYS[3])
if owner and owner ~= ARGV[1] then
  local left = redis.call('PTTL', KEYS[3])
  if left > 0 then return {4, '', left} end
end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return {3, '', 0}
";

/// `ARGV`: owner, kind (`t`, `n` or nothing), value, and its milliseconds.
///
/// The lease is released first: if the write fails because the memory is full, no other process waits for the lease.
pub(crate) const PUBLISH: &str = r"
if redis.pcall('GET', KEYS[3]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[3])
if ARGV[2] == 't' then
  redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
  redis.call('DEL', KEYS[2])
elseif ARGV[2] == 'n' then
  redis.call('SET', KEYS[2], ARGV[3], 'PX', ARGV[4])
end
return 1
";
