#!lua flags=
-- Replace the whole state of one partition, if the caller still owns it.
--
-- Only fields that worker users may always touch: a field at a time is deleted, not the key.
--
-- KEYS[1]  the partition's hash
-- ARGV     owner, offset, flush id, field, value...
-- Returns  OK | FENCED (another owner)
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return 'FENCED'
end
local stored = redis.call('HGETALL', KEYS[1])
for at = 1, #stored, 2 do
  if stored[at] ~= 'owner' then
    redis.call('HDEL', KEYS[1], stored[at])
  end
end
for at = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[at], ARGV[at + 1])
end
redis.call('HSET', KEYS[1], 'offset', ARGV[2], 'flush', ARGV[3])
return 'OK'
