-- Write to a job as the holder of an attempt: refused when the job is over, another attempt has begun, or this one was
-- given back or buried.
-- KEYS: job, active jobs. ARGV: job id, attempt, lease in ms ('' keeps it, '0' gives it up), terminal status or '',
--   now as text, then field, value, ...  Progress never goes back within an attempt.
-- Returns {'ok', interrupt} | {'stale', status, attempt}
local status = redis.call('HGET', KEYS[1], 'status')
local attempt = redis.call('HGET', KEYS[1], 'attempt')
local owner = redis.call('HGET', KEYS[1], 'owner') or ''
if status ~= 'RUNNING' or attempt ~= ARGV[2] or owner == '' then return {'stale', status or 'missing', attempt or '0'} end
for i = 6, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if field == 'progress' then
    -- compared as numbers, kept as text: Redis would cut a Lua number down to an integer
    local before = redis.call('HGET', KEYS[1], 'progress') or '0'
    if tonumber(value) < tonumber(before) then value = before end
  end
  if value == '' then redis.call('HDEL', KEYS[1], field) else redis.call('HSET', KEYS[1], field, value) end
end
if ARGV[4] ~= '' then
  redis.call('HSET', KEYS[1], 'status', ARGV[4], 'finished_at', ARGV[5], 'owner', '', 'lease_until_ms', '0')
  redis.call('HDEL', KEYS[1], 'eta_seconds')
  redis.call('ZREM', KEYS[2], ARGV[1])
elseif ARGV[3] == '0' then
  redis.call('HSET', KEYS[1], 'owner', '', 'lease_until_ms', '0')
  redis.call('ZADD', KEYS[2], 0, ARGV[1])
elseif ARGV[3] ~= '' then
  local clock = redis.call('TIME')
  local until_ms = clock[1] * 1000 + math.floor(clock[2] / 1000) + tonumber(ARGV[3])
  redis.call('HSET', KEYS[1], 'lease_until_ms', until_ms)
  redis.call('ZADD', KEYS[2], until_ms, ARGV[1])
end
return {'ok', redis.call('HGET', KEYS[1], 'interrupt') or '0'}
