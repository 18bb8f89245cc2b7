#!/bin/bash
# Messages to people by every kind of channel, each against another end that checks signatures as the
# provider does; mails read by a foreign parser; the next channel when one refuses; nobody told twice
# by a message that is paid for.
# shellcheck source=tests/e2e/courier.sh
. "$(dirname "$0")/courier.sh"

# channel NAME KIND SETTINGS [SECRET VALUE]...
channel()
{
	local name=$1
	sql "SELECT submeter.set_channel(1, '$name', '$2', '$3')" >/dev/null || return
	shift 3
	while (($# > 0)); do
		sql "SELECT submeter.set_secret(1, 'channel/$name/$1', '$2')" >/dev/null || return
		shift 2
	done
}

channels_make()
{
	local texts='"templates":{"low_balance":{"code":"SMS_1","id":"T1","fields":{"amount":"available","unit":"unit"}},"tripped":{"code":"SMS_2","id":"T2","fields":{"unit":"unit"}}}'
	channel mail mail "{\"url\":\"$SMTP\",\"from\":\"power@mall.example\",\"from_name\":\"商场,电费\",\"user\":\"meter\",\"ca\":$(json_text "$CERT")}" password 's3cret, word' &&
		channel sms sms_aliyun "{\"endpoint\":\"$CHANNELS\",\"key_id\":\"k\",\"sign_name\":\"商场\",$texts}" key_secret 'ali secret' &&
		channel sms2 sms_tencent "{\"endpoint\":\"$CHANNELS\",\"secret_id\":\"i\",\"app_id\":\"14\",\"sign_name\":\"商场\",\"templates\":{\"low_balance\":{\"code\":\"7\",\"fields\":[\"available\",\"unit\"]}}}" secret_key 'tencent secret' &&
		channel dingtalk dingtalk "{\"endpoint\":\"$CHANNELS\"}" token t sign SECding &&
		channel feishu feishu "{\"endpoint\":\"$CHANNELS\"}" token t sign SECfeishu &&
		channel wecom wecom "{\"endpoint\":\"$CHANNELS\"}" token wecomkey &&
		channel app jpush "{\"endpoint\":\"$CHANNELS\",\"report_endpoint\":\"$CHANNELS\",\"app_key\":\"appkey\"}" master_secret master &&
		channel wechat wechat "{\"endpoint\":\"$CHANNELS\",\"authorize_endpoint\":\"$CHANNELS\",\"return_hosts\":[\"pay.mall.example\"],\"appid\":\"wxapp\",$texts}" app_secret wxsecret &&
		channel hook webhook "{\"url\":\"$CHANNELS/hook\"}" key whsec &&
		channel push webpush '{"subject":"mailto:power@mall.example"}' &&
		sql "SELECT submeter.make_push_key(1, 'push')" >/dev/null
}

# person ID CHANNELS
person()
{
	sql "INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, $1, 'T$1', '面馆<$1>');
		INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, phone, email, locale, channels)
		VALUES (1, $1, $1, '店主', '138$(printf %08d "$1")', 'owner$1@bakery.example', 'zh', '{$2}');
		INSERT INTO submeter.account (site_id, account_id, tenant_id, code) VALUES (1, $1, $1, 'A$1')"
}

# tell ID [KIND]: queues a notice; prints its number. The policy takes back announcements of trips to whoever is not in
# arrears, so what must come through quiet hours here is "tripped".
tell()
{
	sql "SELECT submeter.queue_notice(1, $1, '${2:-low_balance}', '${2:-low}:$1:' || gen_random_uuid(),
		'{\"available\":4.5,\"threshold\":20,\"amount\":10,\"due_at\":\"2031-01-01 08:00+08\"}', clock_timestamp(), '${2:-low_balance}' <> 'low_balance')"
}

is_accepted()
{
	[ "$(sql "SELECT state || ' ' || channel FROM submeter.notice WHERE notice_id = $1")" = "accepted $2" ]
}

# became ID STATE: whether the provider says so of a message; it is asked now and not in some minutes.
became()
{
	sql "UPDATE submeter.outbound SET not_before = now() WHERE kind = 'receipt' AND state = 'queued' AND not_before > now(); NOTIFY submeter_courier"
	[ "$(sql "SELECT delivery FROM submeter.notice WHERE notice_id = $1")" = "$2" ]
}

became_accepted()
{
	became "$1" failed
	is_accepted "$1" "$2"
}

# visit URL: a person opens it inside WeChat; prints "CODE STATE" of the address WeChat sends the person back to
visit()
{
	/usr/bin/python3 -c 'import http.client, sys, urllib.parse
to = urllib.parse.urlsplit(sys.argv[1])
link = http.client.HTTPConnection(to.netloc)
link.request("GET", to.path + "?" + to.query)
back = urllib.parse.urlsplit(link.getresponse().getheader("Location"))
asked = dict(urllib.parse.parse_qsl(back.query))
assert (back.netloc, asked["a"]) == ("pay.mall.example", "1")
print(asked["code"], asked["state"])' "$1"
}

# login PERSON: the person's login at WeChat; CODE and LOGIN afterwards
login()
{
	local state
	read -r CODE state <<<"$(visit "$(sql "SELECT submeter.begin_wechat_login(1, $1, 'wechat', 'https://pay.mall.example/me?a=1')")")"
	LOGIN=$(sql "SELECT submeter.finish_wechat_login(1, '$state', '$CODE')")
}

login_is()
{
	[ "$(sql "SELECT concat_ws(' ', state, detail) FROM submeter.check_wechat_login(1, $LOGIN)")" = "$1" ]
}

fault()
{
	/usr/bin/python3 -c 'import sys, urllib.request
urllib.request.urlopen(sys.argv[1] + "/fault", ("{\"channel\":\"%s\",\"answer\":\"%s\"}" % (sys.argv[2], sys.argv[3])).encode())' "$CHANNELS" "$1" "$2"
}

# What became of messages and requests that were not delivered, when a test failed.
notices_tell()
{
	((_tap_failed == 0)) || diag "$(sql "SELECT notice_id, contact_id, channel, state, tried, next_try_at, last_error FROM submeter.notice WHERE state <> 'accepted' OR notice_id > 15
		ORDER BY 1; SELECT outbound_id, kind, channel, state, attempts, not_before, detail FROM submeter.outbound WHERE state <> 'delivered' ORDER BY 1; SELECT duty, next_at, error FROM submeter.duty_state WHERE duty = 'notices'")"
}
at_exit notices_tell

# heard CHANNEL: what its other end heard last
heard()
{
	grep "\"channel\": \"$1\"" "$SINK/log" | tail -n 1
}

setup 'start the host outside' sink_start
setup 'start the other ends' channels_start
setup 'start the server' field_start "submeter.databases = 'postgres'" 'submeter.naptime = 20ms' 'log_statement = all'
setup 'make notices quick' sql "UPDATE submeter.duty SET every = '100 ms' WHERE duty = 'notices';
	INSERT INTO submeter.credit_policy (site_id, code, mode, low_balances) VALUES (1, 'p', 'automatic', '{}');
	UPDATE submeter.site SET time_zone = 'Asia/Shanghai', default_policy_id = (SELECT policy_id FROM submeter.credit_policy WHERE code = 'p')"
setup 'set up the channels' channels_make
setup 'make a login for couriers' courier_login
courier_start first

# Mail
setup 'a person with mail' person 1 mail
id=$(tell 1)
wait_for 60 'a mail is taken' is_accepted "$id" mail
is "$(/usr/bin/python3 - "$SINK/mail.1" <<'END'
import email, email.policy, sys
head, _, rest = open(sys.argv[1], 'rb').read().partition(b'\n')
m = email.message_from_bytes(rest, policy=email.policy.default)
text, html = [part.get_content() for part in m.iter_parts()]
print(m['from'].addresses[0].display_name, m['from'].addresses[0].addr_spec, m['to'].addresses[0].addr_spec, m['message-id'], '4.50' in text and '4.50' in html, '面馆<1>' in text, '面馆&lt;1&gt;' in html, m.defects)
END
)" "商场,电费 power@mall.example owner1@bakery.example <notice.1.$id@mall.example> True True True []" 'a foreign parser reads names, text and HTML'

# A bill goes along with the mail about it, as a page with its curve.
setup 'a shop with a month of electricity' sql "INSERT INTO submeter.tenant (site_id, tenant_id, code, name) VALUES (1, 50, 'T50', '面馆');
	INSERT INTO submeter.contact (site_id, contact_id, tenant_id, name, email, channels) VALUES (1, 50, 50, '店主', 'owner50@bakery.example', '{mail}');
	INSERT INTO submeter.account (site_id, account_id, tenant_id, code, opened_at) VALUES (1, 50, 50, 'A50', '2026-01-01 00:00+08');
	INSERT INTO submeter.meter (site_id, meter_id, code, model) VALUES (1, 50, 'M50', 'DDS238-2 ZN/SR');
	INSERT INTO submeter.meter_setup (site_id, meter_id, valid_from, rated_current_a) VALUES (1, 50, '2026-01-01 00:00+08', 60);
	SELECT submeter.create_tariff(1, 'flat', '{\"energy\":[{\"price\":0.8}]}', '2026-01-01 00:00+08');
	INSERT INTO submeter.supply (site_id, account_id, meter_id, tariff_id, during) SELECT 1, 50, 50, tariff_id, '[2026-01-01 00:00+08,)' FROM submeter.tariff WHERE code = 'flat';
	SELECT submeter.create_partitions('2025-12-01', '2026-03-01');
	SELECT submeter.ingest_json(1, jsonb_agg(jsonb_build_object('meter_id', 50, 'ts', ts, 'energy_wh', 1000000 + extract(epoch FROM ts - '2026-01-01 00:00+08'::timestamptz)::bigint / 36)))
	FROM generate_series('2026-01-01 00:00+08'::timestamptz, '2026-02-02 00:00+08', '1 hour') ts;
	SELECT submeter.recharge(1, 50, 500, 'cash', 'bill-50')"
bill_is_mailed()
{
	[ "$(sql "SELECT count(*) FROM submeter.notice WHERE contact_id = 50 AND kind LIKE 'bill%' AND state = 'accepted'")" = 1 ]
}
setup 'its bill' sql "SELECT submeter.settle(1, '2026-02-02 00:00+08'), submeter.close_cycle(1, '2026-02-01')"
wait_for 60 'a mail about the bill is taken' bill_is_mailed
number=$(sql "SELECT facts ->> 'number' FROM submeter.notice WHERE contact_id = 50 AND kind LIKE 'bill%'")
mapfile -t mails < <(grep -l owner50@bakery.example "$SINK"/mail.*)
is "$(/usr/bin/python3 - "$number" "${mails[@]}" <<'END'
import email, email.policy, sys
for name in sys.argv[2:]:
    m = email.message_from_bytes(open(name, 'rb').read().partition(b'\n')[2], policy=email.policy.default)
    for part in m.iter_attachments():
        page = part.get_content()
        print(part.get_content_type(), part.get_filename() == 'bill-%s.html' % sys.argv[1], '<svg' in page and page.count('<rect ') >= 31, '面馆' in page, 'http' in page, m.defects)
END
)" 'text/html True True True False []' 'a foreign parser finds the bill in it, with its curve'

# Every other channel
n=2
for pair in sms:aliyun sms2:tencent dingtalk:dingtalk feishu:feishu wecom:wecom hook:webhook; do
	setup "a person with ${pair%%:*}" person "$n" "${pair%%:*}"
	id=$(tell "$n")
	wait_for 60 "a message by ${pair%%:*} is taken" is_accepted "$id" "${pair%%:*}"
	n=$((n + 1))
done
like "$(heard aliyun)" '"PhoneNumbers": "13800000002".*4\.50' 'the SMS says how much is left'
like "$(heard webhook)" '面馆<7>' 'the hook gets the whole message'
isnt "$(sql "SELECT receipt FROM submeter.notice WHERE contact_id = 2")" '' "the provider's number is kept"

# Receipts
by_sms=$(sql "SELECT notice_id FROM submeter.notice WHERE contact_id = 2")
by_sms2=$(sql "SELECT notice_id FROM submeter.notice WHERE contact_id = 3")
fault tencent_query pending
wait_for 60 'an SMS by Aliyun has arrived' became "$by_sms" delivered
wait_for 60 'one by Tencent Cloud too, though nobody knew at first' became "$by_sms2" delivered
is "$(sql "SELECT bool_and(delivered_at BETWEEN accepted_at - interval '2 s' AND now() + interval '2 s') FROM submeter.notice WHERE delivery = 'delivered'")" t 'when, is on record'
is "$(sql "SELECT count(*) FROM submeter.outbound WHERE kind = 'receipt' AND attempts = 2 AND state = 'delivered'")" 1 'who did not know was asked again'

# Devices
setup 'a person with an app' person 20 app
setup 'the app registers' sql "SELECT submeter.register_device(1, 20, 'jpush', '190e35f7e0d8f00')"
id=$(tell 20)
wait_for 60 'a push to an app is taken' is_accepted "$id" app
like "$(heard jpush)" '190e35f7e0d8f00' 'to the registered one'
wait_for 60 'and is on it' became "$id" delivered
setup 'a person with a browser' person 21 push,mail
browser=$(/usr/bin/python3 -c 'import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1] + "/browser").read().decode())' "$CHANNELS")
setup 'browsers of the test are not behind TLS' sql "INSERT INTO submeter.device (site_id, contact_id, kind, token, keys) SELECT 1, 21, 'webpush', b ->> 'endpoint', b -> 'keys' FROM (SELECT '$browser'::jsonb AS b) x"
id=$(tell 21)
wait_for 60 'a push to a browser is taken' is_accepted "$id" push
like "$(heard webpush)" '"kind": "low_balance"' 'opened with the key of the browser, from a sender it knows'
fault webpush gone
id=$(tell 21 tripped)
wait_for 60 'a browser that is gone: the mail goes out' is_accepted "$id" mail
is "$(sql "SELECT count(*) FROM submeter.device WHERE kind = 'webpush' AND gone_at IS NULL")" 0 'and the browser is forgotten'
setup 'a person at WeChat' person 22 wechat
setup 'WeChat knows the person' sql "SELECT submeter.register_device(1, 22, 'wechat', 'oAbCdEfGh')"
id=$(tell 22)
wait_for 60 'a token is fetched and the template message taken' is_accepted "$id" wechat
is "$(sql "SELECT count(*) FROM submeter.outbound WHERE kind = 'wechat_token' AND (answer IS NOT NULL OR state <> 'delivered')")" 0 'the token is not left in the outbox'
fault wechat gone
id=$(tell 22 tripped)
wait_for 60 'a token that another took is fetched anew' says 2 grep -c '"channel": "wechat_token"' "$SINK/log"

# A login at WeChat
setup 'a person who is to log in at WeChat' person 23 wechat
setup 'the person comes back with a code' login 23
wait_for 60 'WeChat says whose it is' login_is 'done'
is "$(sql "SELECT token ~ '^o[0-9a-f]{26}\$' AND keys = '{\"appid\":\"wxapp\"}' FROM submeter.device WHERE contact_id = 23")" t 'the openid is a device of the person'
id=$(tell 23)
wait_for 60 'a template message goes to it' is_accepted "$id" wechat
like "$(heard wechat_send)" "$(sql "SELECT token FROM submeter.device WHERE contact_id = 23")" 'to that one'
used=$CODE
setup 'the person logs in again' login 23
wait_for 60 'which works' login_is 'done'
state=$(sql "SELECT substring(submeter.begin_wechat_login(1, 23, 'wechat', 'https://pay.mall.example/me') FROM 'state=([0-9a-f]+)')")
LOGIN=$(sql "SELECT submeter.finish_wechat_login(1, '$state', '$used')")
wait_for 60 'a code that was used says nothing' login_is 'failed 40163: the code was used already'
state=$(sql "SELECT substring(submeter.begin_wechat_login(1, 23, 'wechat', 'https://pay.mall.example/me') FROM 'state=([0-9a-f]+)')")
LOGIN=$(sql "SELECT submeter.finish_wechat_login(1, '$state', 'a-code-of-nobody')")
wait_for 60 'nor does an invented one' login_is 'failed 40029: the code is not valid'
fault wechat_openid snapshot
setup 'the person looks at a snapshot' login 23
wait_for 60 'which is nobody' login_is "failed the page was open in WeChat's snapshot mode: the person opens it in full and tries again"
is "$(sql "SELECT count(*) FROM submeter.device WHERE contact_id = 23")" 2 'and is no device'

# Refusals
setup 'a person with three ways' person 30 sms,sms2,mail
fault aliyun throttle
fault tencent throttle
id=$(tell 30)
wait_for 60 'two gates refuse: the mail goes out' is_accepted "$id" mail
is "$(sql "SELECT tried FROM submeter.notice WHERE notice_id = $id")" '{sms,sms2}' 'which is on record'
setup 'a person with a doubtful way' person 31 sms,mail
before=$(grep -c '"channel": "aliyun"' "$SINK/log")
fault aliyun drop
id=$(tell 31)
wait_for 60 'an SMS that may have arrived: the mail goes out' is_accepted "$id" mail
is "$(($(grep -c '"channel": "aliyun"' "$SINK/log") - before))" 1 'and the SMS is not sent again'
setup 'a person whose telephone is gone' person 33 sms,mail
before=$(grep -c '"PhoneNumbers": "13800000033"' "$SINK/log")
fault aliyun lost
id=$(tell 33)
wait_for 60 'an SMS is taken' is_accepted "$id" sms
wait_for 60 'and did not arrive: the mail goes out' became_accepted "$id" mail
is "$(sql "SELECT undelivered || tried FROM submeter.notice WHERE notice_id = $id")" '{sms,sms}' 'which is on record'
is "$(($(grep -c '"PhoneNumbers": "13800000033"' "$SINK/log") - before))" 1 'and the SMS was sent once'
setup 'a person who is nowhere' person 32 mail
setup 'whose mail is refused' sql "UPDATE submeter.contact SET email = 'never@bakery.example' WHERE contact_id = 32"
id=$(tell 32 tripped)
wait_for 60 'nobody was told' says 't' sql "SELECT tried = '{}' AND attempts > 0 AND accepted_at IS NULL AND last_error ~ '550' FROM submeter.notice WHERE notice_id = $id"
ok 'no secret is in logs, though every statement is' eval '! grep -qE "s3cret|ali secret|tencent secret|wxsecret|whsec|$used|$CODE" "$COURIER_LOG" "$(server_log db)"'
is "$(sql "SELECT count(*) FROM submeter.notice WHERE body ~ 's3cret|ali secret|master' OR last_error ~ 's3cret|ali secret|master'")" 0 'nor on record'
is "$(sql "SELECT count(*) FROM submeter.outbound o WHERE o::text ~ 'wxsecret|$used|$CODE' OR encode(answer, 'escape') ~ 'refresh_token'")" 0 'nor in the outbox'
ok 'the courier ends when it is told to' courier_end TERM first
done_testing
