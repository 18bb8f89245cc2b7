-- Room: bill files of the payment providers. What a provider says happened on a day, read in C (provider_bill.c): unpacked, turned into
-- UTF-8, its columns found by name, its own totals compared.
-- Volatile on purpose, though they only read: files are for whoever reconciles, and the rule that grants functions that only read to
-- everybody must not reach them.

CREATE FUNCTION submeter.provider_bill(provider text, file bytea)
RETURNS TABLE (line int, account text, kind text, provider_transaction text, out_trade_no text, refund_no text, provider_refund text,
	amount numeric, fee numeric, settled numeric, happened_at timestamptz, subject text, raw text)
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'submeter_provider_bill';
COMMENT ON FUNCTION submeter.provider_bill(text, bytea) IS
'Detail lines of a trade bill of alipay or wechat: its ZIP or gzip file, or the text in it (64 MB packed, 256 MB unpacked at most).
account: the seller (Alipay: 16 digits; WeChat Pay: the merchant number). kind: payment, refund (WeChat Pay: revoked payments too), or other for what we do not know, what failed, or a sign that does not fit.
amount: what was ordered or asked back, never negative. fee: what the provider charges, negative when given back. settled: by how much the merchant''s balance there changed before the fee, negative for refunds; less than amount when coupons were used. All in yuan, with the decimals that were printed; settled less fee is what arrives.
happened_at: when it was paid or refunded (printed in China''s time); of a refund under way when it was asked for. NULL are numbers that are not there. line counts on from one text of an archive to the next.
22023 with the line: no file, not such a bill, damaged, not whole, too large, a needed column missing or twice, a line, number or time that cannot be read, bytes that are not GBK or UTF-8, or totals other than its lines'' (WeChat Pay: all of them; Alipay: counts and sums at the end of the list, counts of the text with the totals). A day without lines has no rows.';

CREATE FUNCTION submeter.bill_plain(file bytea) RETURNS bytea
LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'submeter_bill_plain';
COMMENT ON FUNCTION submeter.bill_plain(bytea) IS
'The text in a bill file, of an archive the first, with its bytes as they are; what is not packed comes back as it is. WeChat Pay''s hash_value is the SHA-1 of this. 22023 when there is none, it cannot be unpacked or is too large (64 MB packed, 256 MB unpacked).';
