#!lua flags=
-- Become the one owner of a partition's state; whoever owned it before is fenced from now on.
--
-- KEYS[1]  the partition's hash
-- ARGV[1]  a token never used before
-- Returns  {owner, offset or false}
local owner = redis.call('HGET', KEYS[1], 'owner') or '0:'
-- A damaged owner has no number.
local epoch = tonumber(string.match(owner, '^%d+') or '0') + 1
-- Epochs can repeat after Redis has lost its latest writes; the token cannot.
owner = string.format('%d:%s', epoch, ARGV[1])
redis.call('HSET', KEYS[1], 'owner', owner)
return { owner, redis.call('HGET', KEYS[1], 'offset') }
