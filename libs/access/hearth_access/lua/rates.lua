-- Settle what one gateway spent of several keys' limits, and say what is left and what the other gateways have at work.
-- KEYS: one hash a key: `requests`, `tokens` (what is left of a minute's allowance; may be below 0), `at` (ms), and
--   for each gateway `@<id>` = "<requests> <streams> <ms>": what it had at work then.
-- ARGV: gateway id; then for each key: requests/minute, requests spent, tokens/minute, tokens spent, requests at work,
--   streams at work. 0 a minute: not limited.
-- Returns for each key {requests left, tokens left, requests elsewhere, streams elsewhere}, numbers as text.
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local LEASE_MS, KEPT_MS = 3000, 180000 -- after a minute an allowance is full again, and a missing hash is a full one

local function settle(key, field, per_minute, spent, elapsed)
  local left = tonumber(redis.call('HGET', key, field) or per_minute)
  left = math.min(per_minute, left + elapsed * per_minute / 60000) - spent
  redis.call('HSET', key, field, tostring(left))
  return tostring(left)
end

local answers = {}
for i, key in ipairs(KEYS) do
  local a = 2 + (i - 1) * 6
  local elapsed = math.max(0, now - tonumber(redis.call('HGET', key, 'at') or now))
  local requests = settle(key, 'requests', tonumber(ARGV[a]), tonumber(ARGV[a + 1]), elapsed)
  local tokens = settle(key, 'tokens', tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), elapsed)
  redis.call('HSET', key, 'at', now, '@' .. ARGV[1], ARGV[a + 4] .. ' ' .. ARGV[a + 5] .. ' ' .. now)
  local others, streams = 0, 0
  local fields = redis.call('HGETALL', key)
  for f = 1, #fields, 2 do
    if string.sub(fields[f], 1, 1) == '@' and fields[f] ~= '@' .. ARGV[1] then
      local at_work, of_them, at = string.match(fields[f + 1], '(%d+) (%d+) (%d+)')
      if now - tonumber(at) > LEASE_MS then
        redis.call('HDEL', key, fields[f])
      else
        others, streams = others + tonumber(at_work), streams + tonumber(of_them)
      end
    end
  end
  redis.call('PEXPIRE', key, KEPT_MS)
  answers[i] = {requests, tokens, tostring(others), tostring(streams)}
end
return answers
