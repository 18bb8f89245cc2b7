#!/usr/bin/env bash
# The README's tour does what it says: its SQL runs as printed, and the amounts in its text are right.
set -u
cd "$(dirname "$0")/../.." || exit 1
# shellcheck source=tests/lib/tap.sh
. tests/lib/tap.sh
# shellcheck source=tests/lib/server.sh
. tests/lib/server.sh

work=$(mktemp -d /tmp/submeter-readme.XXXXXX)
at_exit rm -rf "$work"
awk '/^```sql$/ { inside = 1; next } /^```$/ { inside = 0 } inside' README.md >"$work/tour.sql"

# What a merchant has after the steps before: its own keys as printed, and what the platforms hand out.
platform()
(
	cd "$work" && awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside && /^openssl (genrsa|rsa) /' "$SM_ROOT/README.md" >keys.sh &&
		sh -e keys.sh && test -s app_public_key.pem &&
		openssl genrsa 2048 | openssl rsa -pubout | grep -v KEY >alipay_public_key.pem &&
		openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=1900000001 -days 2 -keyout apiclient_key.pem -out apiclient_cert.pem &&
		openssl genrsa 2048 | openssl rsa -pubout -out pub_key.pem && printf 0123456789abcdef0123456789abcdef >apiv3_key.txt
)

setup 'the keys of a merchant' eval 'platform >"$work/platform" 2>&1'
server_start readme || bail 'no server'
server_createdb readme tour --bare || bail 'no database'
ok 'the tour has its statements' test "$(grep -c ';' "$work/tour.sql")" -gt 30
(cd "$work" && server_psql readme tour -v ON_ERROR_STOP=1 -f "$work/tour.sql" >"$work/out" 2>"$work/err")
is $? 0 'every statement of the README runs' || diag "$(cat "$work/err")"

query()
{
	server_psql readme tour -c "$1"
}

is "$(query "SELECT energy_wh, rounded FROM submeter.charge ORDER BY cycle_start LIMIT 1")" '669600|485.27' \
	'January costs what the text says'
is "$(query "SELECT rule, state FROM submeter.reading_suspect")" 'jump|open' 'the strange reading is a suspect'
is "$(query "SELECT count(*) FROM submeter.transfer WHERE kind = 'recharge'")" 1 'the repeated recharge is one movement'
isnt "$(query "SELECT count(*) FROM submeter.decision WHERE mode = 'observe'")" 0 'the policy explained itself'
is "$(query "SELECT count(*) FROM submeter.notice")" 0 'and sent nothing in mode observe'
is "$(query "SELECT string_agg(action || ' ' || state, ', ' ORDER BY command_id) FROM submeter.command")" \
	'open superseded, close queued' 'the breaker by hand'
is "$(grep '^energy|3' "$work/out")" 'energy|3||200.000|0.889|177.80' 'the quote has its third tier'
# The chapters about payments and notices: what was entered is what it takes to sign and to send.
is "$(query "SELECT string_agg(o.provider || ' ' || o.state || coalesce(' ' || o.detail, ''), ', ') FROM submeter.payment_order o")" 'alipay open cancelled' \
	'a payment was begun and given up'
is "$(query "SELECT string_agg(s.name, ', ' ORDER BY s.name) FROM submeter.secret s")" \
	'channel/mail/password, merchant/1/private_key, merchant/2/api_v3_key, merchant/2/private_key' 'the secrets are sealed'
is "$(query "SELECT key_serial FROM submeter.merchant WHERE provider = 'wechat'")" \
	"$(openssl x509 -in "$work/apiclient_cert.pem" -noout -serial | cut -d= -f2)" 'with the serial number of the certificate'
is "$(query "SELECT submeter.rsa_sha256_verify(convert_to(submeter.alipay_sign_text(p), 'UTF8'), decode(p ->> 'sign', 'base64'), '$(cat "$work/app_public_key.pem")')
	FROM submeter.merchant m, submeter.alipay_parameters(to_jsonb(m), 'alipay.trade.query', '{}', now()) p WHERE m.provider = 'alipay'")" t \
	'what Alipay gets is signed with the key whose public half was pasted there'
is "$(query "SELECT submeter.rsa_sha256_verify('x', submeter.rsa_sha256_sign('x', submeter.secret_text(1, 'merchant/2/private_key')), '$(cat "$work/apiclient_cert.pem")')")" t \
	"and what WeChat Pay gets with that of the merchant's certificate"
ok 'the server log shows no key' eval '! grep -qE "BEGIN (RSA )?PRIVATE|0123456789abcdef|as given by" "$(server_log readme)"'
is "$(query "SELECT next_channel FROM submeter.next_channel(1, 1, 'low_balance', '{}', now())")" mail 'the owner is told by mail'
missing=
for name in $(sed -n '/^\*\*Verbs/,/^\*\*Settings/p' README.md | grep -oE '`[a-z_]+[(`]' | tr -d '`(' | sort -u); do
	[ "$(query "SELECT count(*) > 0 FROM pg_proc WHERE pronamespace = 'submeter'::regnamespace AND proname = '$name'")" = t ] ||
		missing="$missing $name"
done
is "$missing" '' 'every verb of the reference exists'
missing=
for name in $(query "SELECT v.verb FROM submeter.verb v WHERE v.verb NOT IN ('poller', 'courier') ORDER BY 1"); do
	sed -n '/^\*\*Verbs/,/^\*\*Settings/p' README.md | grep -qE "\`${name}[(\`]" || missing="$missing $name"
done
is "$missing" '' 'and every verb is in it'
is "$(query 'SELECT count(*) FROM submeter.verify_ledger(1)')" 0 'the ledger is verified'
done_testing
