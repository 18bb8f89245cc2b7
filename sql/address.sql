-- Addresses of people: what is refused and why, for numbers of the mainland and from abroad, mail addresses, names and
-- orders of channels; and how an address looks in the log.
\pset footer off
\pset format unaligned
SET client_min_messages = warning;
SELECT submeter.create_storage() > 0 AS stored;
INSERT INTO submeter.site (site_id, code, name) VALUES (1, 'S1', 'Mall'), (2, 'S2', 'Other');
INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 1, 'T1', 'Bakery');
INSERT INTO submeter.notice_channel (site_id, channel, kind) VALUES (1, 'sms', 'sms_aliyun'), (2, 'far', 'sms_aliyun');

-- 1. Telephone numbers: what is wrong with it, and what an SMS is sent to
SELECT phone, coalesce(submeter.phone_fault(phone), 'fine') AS fault, submeter.mobile_number(phone) AS sms
FROM unnest(ARRAY['13800000001', '19912345678', '+8613800000001', '+85251234567', '+14155550123', '+4915112345678', '02012345678', '075512345678', '4001234567', '+862012345678',
	'12012345678', '1380000000', '138000000012', '8613800000001', '008613800000001', '+8612012345678', '+861380000000', '+0123456789', '+123456', '+1234567890123456', '12345', '+', '',
	'138 0000 0001', '138-0000-0001', '(020)12345678', '１３８０００００００１', E'13800000001\n', '+86 13800000001', 'tel:13800000001', '13800000001;13800000002']) phone;
SELECT submeter.phone_fault(NULL) IS NULL AS none_is_fine, submeter.mobile_number(NULL) IS NULL AS and_gets_nothing;
-- 2. Mail addresses
SELECT email, coalesce(submeter.email_fault(email), 'fine') AS fault
FROM unnest(ARRAY['owner@shop.example', 'o''neil+power@shop.example', 'a.b_c-d@mail.shop.example', 'x@xn--fsqu00a.xn--0zwm56d', 'owner@localhost', 'owner@shop', 'owner', '@shop.example', 'owner@', 'a@b@shop.example', 'owner@shop..example', 'owner@-shop.example',
	'owner@shop.example.', '.owner@shop.example', 'own..er@shop.example', 'owner.@shop.example', '老板@shop.example', 'owner@例子.测试', '"the owner"@shop.example', 'The Owner <owner@shop.example>', 'a@shop.example,b@shop.example', 'a@shop.example;b@shop.example',
	'own er@shop.example', E'owner@shop.example\r\nBcc: all@shop.example', E'owner@shop.example\n', E'own\ter@shop.example', 'owner@[127.0.0.1]', 'owner@127.0.0.1', 'own\er@shop.example', 'owner(x)@shop.example', 'owner@shop.example:25', '',
	repeat('x', 65) || '@shop.example', 'x@' || repeat('shop.', 50) || 'example']) email;
-- 3. Names and orders of channels
SELECT left(name, 20) AS name, submeter.name_fault(name) FROM unnest(ARRAY['店主', 'Doe, "J" <x@y>', '', '  ', E'a\nb', repeat('长', 100), repeat('长', 101), NULL]) name;
SELECT channels, submeter.channels_fault(channels), submeter.missing_channels(1, channels) FROM (VALUES ('{file}'::text[]), ('{sms,file}'), ('{far}'), ('{sms,carrier pigeon}'), ('{sms,sms}'), ('{sms,NULL}'), ('{}'), ('{{sms,file}}'), (NULL), (array_fill('x'::text, '{21}'))) v(channels);

-- 4. One error, with what to do; nothing is changed. The same number is written one way.
INSERT INTO submeter.contact (site_id, tenant_id, name, phone, email, channels) VALUES (1, 1, 'Owner', '+8613800000001', 'Owner@shop.example', '{sms,file}') RETURNING phone, email, channels;
INSERT INTO submeter.contact (site_id, tenant_id, name, phone) VALUES (1, 1, 'Clerk', '008613800000002');
UPDATE submeter.contact SET email = 'a@shop.example, b@shop.example';
UPDATE submeter.contact SET channels = '{Far}';
-- entered before it is set up
UPDATE submeter.contact SET channels = '{sms,far}';
UPDATE submeter.contact SET channels = '{sms,file}';
UPDATE submeter.contact SET name = repeat('x', 500);
UPDATE submeter.contact SET phone = '+852' || E'\n51234567';
SELECT name, phone, email, channels FROM submeter.contact;
-- a channel that is gone stays in the order of who has it, and is passed over
DELETE FROM submeter.notice_channel WHERE channel = 'sms' AND site_id = 1;
UPDATE submeter.contact SET locale = 'en', quiet_from = '22:00', quiet_to = '07:00';
UPDATE submeter.contact SET phone = '13800000002', channels = channels;
SELECT phone, submeter.next_channel(1, contact_id, 'low_balance', '{}', now()) FROM submeter.contact;

-- 5. A landline gets no SMS, a mobile number abroad does
SELECT submeter.set_channel(1, 'sms', 'sms_aliyun', '{"key_id":"k","sign_name":"s","templates":{"low_balance":{"code":"SMS_1"}}}');
SELECT submeter.set_secret(1, 'channel/sms/key_secret', 'x');
SELECT phone, (SELECT count(*) FROM submeter.notice_addresses(1, 1, 'sms_aliyun', '{}')) AS addresses, submeter.next_channel(1, 1, 'low_balance', '{}', now()) AS channel FROM submeter.contact;
UPDATE submeter.contact SET phone = '02012345678';
SELECT phone, (SELECT count(*) FROM submeter.notice_addresses(1, 1, 'sms_aliyun', '{}')) AS addresses, submeter.next_channel(1, 1, 'low_balance', '{}', now()) AS channel FROM submeter.contact;

-- 6. In the log
SELECT address, submeter.mask_address(address) FROM unnest(ARRAY['13800000001', '+85251234567', 'owner@shop.example', 'https://push.example/send/secret-token', 'oAbCdEfGhIjKlMn', '', NULL]) address;
