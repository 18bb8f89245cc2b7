/*
 * test_crypto.c - keys, signatures, sealed text, base64 and the signed bytes of Alipay and WeChat Pay
 */
/* links: extension/crypto_key.c extension/crypto_chain.c extension/crypto_cipher.c extension/alipay_form.c extension/alipay_node.c extension/wechat.c extension/secret_key.c */
/* libs: -lcrypto */
#include <stdlib.h>

#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "../../extension/alipay.h"
#include "../../extension/crypto.h"
#include "../../extension/secret_key.h"
#include "../../extension/wechat.h"
#include "test_poller_tap.h"

/* The text of a key, private or public. */
static size_t
key_text(EVP_PKEY *key, bool private, char *text, size_t size)
{
	BIO *file = BIO_new(BIO_s_mem());
	int length;

	if (private)
		PEM_write_bio_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
	else
		PEM_write_bio_PUBKEY(file, key);
	length = BIO_read(file, text, (int) size);
	BIO_free(file);
	return (size_t) length;
}

static void
test_keys(void)
{
	EVP_PKEY *key = EVP_RSA_gen(2048);
	char public[2048];
	char private[4096];
	size_t public_length = key_text(key, false, public, sizeof(public));
	size_t private_length = key_text(key, true, private, sizeof(private));
	EVP_PKEY *verifying = crypto_public_key(public, public_length);
	EVP_PKEY *signing = crypto_private_key(private, private_length);
	EVP_PKEY_CTX *verifier = crypto_verifier(verifying);
	uint8_t signature[CRYPTO_RSA_BYTES];
	size_t length;
	const uint8_t *message = (const uint8_t *) "message";

	ok(verifying != NULL && signing != NULL && verifier != NULL, "both halves are read");
	ok(crypto_sign(signing, message, 7, signature, &length) && length == 256, "it signs");
	ok(crypto_verify(verifier, message, 7, signature, length), "and the signature is good");
	ok(!crypto_verify(verifier, message, 6, signature, length), "for this message only");
	ok(!crypto_verify(verifier, message, 7, signature, length - 1), "and whole");
	ok(!crypto_verify(verifier, message, 7, signature, 0), "none is none");
	signature[0] ^= 1;
	ok(!crypto_verify(verifier, message, 7, signature, length), "a changed bit shows");
	signature[0] ^= 1;
	ok(crypto_verify(verifier, message, 7, signature, length), "the verifier goes on after that");
	ok(crypto_public_key(private, private_length) == NULL, "a private key is no public one");
	ok(crypto_private_key(public, public_length) == NULL, "nor the other way round");
	for (size_t cut = 0; cut < public_length - 27; cut += 13)
		if (crypto_public_key(public, cut) != NULL)
			ok(false, "a cut key is none");
	EVP_PKEY_CTX_free(verifier);
	EVP_PKEY_free(verifying);
	EVP_PKEY_free(signing);
	EVP_PKEY_free(key);
}

static void
test_gcm(void)
{
	static const uint8_t key[32] = {1, 2, 3};
	static const uint8_t nonce[12] = {4, 5, 6};
	uint8_t sealed[64];
	uint8_t plain[64];
	const uint8_t *aad = (const uint8_t *) "place";

	for (size_t n = 0; n <= 40; n += 8)
	{
		memset(plain, 0xAA, sizeof(plain));
		if (!crypto_gcm_seal(key, 32, nonce, 12, aad, 5,
							 (const uint8_t *) "0123456789012345678901234567890123456789", n,
							 sealed) ||
			!crypto_gcm_open(key, 32, nonce, 12, aad, 5, sealed, n + CRYPTO_TAG, plain) ||
			memcmp(plain, "0123456789012345678901234567890123456789", n) != 0)
			ok(false, "sealed text opens");
	}
	ok(crypto_gcm_open(key, 32, nonce, 12, aad, 5, sealed, 56, plain), "sealed text opens");
	ok(!crypto_gcm_open(key, 32, nonce, 12, aad, 4, sealed, 56, plain), "not in another place");
	is(plain[0], 0, "and what was opened halfway is wiped");
	ok(!crypto_gcm_open(key, 16, nonce, 12, aad, 5, sealed, 56, plain), "not with another key");
	ok(!crypto_gcm_open(key, 24, nonce, 12, aad, 5, sealed, 56, plain), "a key has 16 or 32 bytes");
	ok(!crypto_gcm_open(key, 32, nonce, 0, aad, 5, sealed, 56, plain), "a nonce is not empty");
	ok(!crypto_gcm_open(key, 32, nonce, 12, aad, 5, sealed, 15, plain), "a tag has 16 bytes");
}

static int
decode(const char *text, uint8_t *bytes, size_t size)
{
	return crypto_base64(text, strlen(text), bytes, size);
}

static void
test_base64(void)
{
	uint8_t bytes[16];

	is(decode("", bytes, 16), -1, "nothing is no base64");
	is(decode("Zg==", bytes, 16), 1, "one byte");
	is(decode("Zm8=", bytes, 16), 2, "two bytes");
	is(decode("Zm9v", bytes, 16), 3, "three bytes");
	ok(memcmp(bytes, "foo", 3) == 0, "the right ones");
	is(decode("Zm9vYmFy", bytes, 6), 6, "as many as there is room for");
	is(decode("Zm9vYmFy", bytes, 5), -1, "not more");
	is(decode("Zh==", bytes, 16), -1, "bits that stand for nothing");
	is(decode("Zm9=", bytes, 16), -1, "in the third digit, too");
	is(decode("Zg=", bytes, 16), -1, "padding is whole");
	is(decode("Z===", bytes, 16), -1, "and at most two");
	is(decode("====", bytes, 16), -1, "not alone");
	is(decode("Zg==Zg==", bytes, 16), -1, "and at the end");
	is(decode("Zm 9", bytes, 16), -1, "no blanks");
	is(decode("Zm-_", bytes, 16), -1, "not the alphabet of addresses");
	is(decode("+/+/", bytes, 16), 3, "but the usual one");
}

/* What was signed of a form; NULL when it is refused. */
static const char *
form(const char *text)
{
	static char signed_text[256];
	char body[256];
	SmFormField fields[ALIPAY_FIELDS_MAX];
	SmBytes sign;
	size_t length;
	int n = form_parse(strcpy(body, text), strlen(text), fields);

	if (n < 0 || !alipay_form_text(fields, n, signed_text, sizeof(signed_text) - 1, &length, &sign))
		return NULL;
	signed_text[length] = '\0';
	return signed_text;
}

static void
test_form(void)
{
	char many[4096] = "sign=x";
	SmFormField fields[ALIPAY_FIELDS_MAX];

	is_text(form("b=2&a=1&sign=x&sign_type=RSA2"), "a=1&b=2", "in the order of the names");
	is_text(form("a1=1&a=2&sign=x"), "a=2&a1=1", "a name before one it begins");
	is_text(form("a=%26%3D%25+%2B&sign=x"), "a=&=% +", "decoded once");
	is_text(form("a&sign=x"), "a=", "a name alone");
	is_text(form("sign=x"), "", "nothing but the signature");
	is_text(form("a=1"), NULL, "no signature");
	is_text(form("a=1&sign=x&"), NULL, "an end that is none");
	is_text(form("a=1&&sign=x"), NULL, "a field without a name");
	is_text(form("a=1&a=2&sign=x"), NULL, "a name twice");
	is_text(form("a=1&%61=2&sign=x"), NULL, "also when it is written differently");
	is_text(form("a=%4&sign=x"), NULL, "a percent sign without its digits");
	is_text(form("a=1&sign=x&sign_type=RSA"), NULL, "a signature of another kind");
	for (int i = 0; i < ALIPAY_FIELDS_MAX - 1; i++)
		sprintf(many + strlen(many), "&f%d=1", i);
	is(form_parse(many, strlen(many), fields), ALIPAY_FIELDS_MAX, "as many fields as there may be");
	memset(many, 0, sizeof(many));
	for (int i = 0; i <= ALIPAY_FIELDS_MAX; i++)
		sprintf(many + strlen(many), "%sf%d=1", i == 0 ? "" : "&", i);
	is(form_parse(many, strlen(many), fields), -1, "one too many");
}

/* The signed text of node "n"; NULL when it is refused. */
static const char *
node(const char *body)
{
	static char content[256];
	SmAlipayNode found;
	SmBytes name = {"n", 1};

	if (!alipay_node_find(body, strlen(body), name, &found))
		return NULL;
	memcpy(content, found.content.at, found.content.length);
	content[found.content.length] = '\0';
	return content;
}

static void
test_node(void)
{
	is_text(node("{\"n\":{\"a\":[1,{\"b\":\"}\"}]},\"sign\":\"x\"}"), "{\"a\":[1,{\"b\":\"}\"}]}",
			"up to its own brace");
	is_text(node("{\"n\":{\"a\":\"\\\\\"},\"sign\":\"x\"}"), "{\"a\":\"\\\\\"}",
			"backslashes in pairs");
	is_text(node("{\"n\":{\"a\":\"\\\"}\"},\"sign\":\"x\"}"), "{\"a\":\"\\\"}\"}",
			"a quoted quote");
	is_text(node("{\"n\":\"sealed\",\"sign\":\"x\"}"), "\"sealed\"",
			"a sealed node with its quotes");
	is_text(node("{\"n\":{},\"n\":{},\"sign\":\"x\"}"), NULL, "twice");
	is_text(node("{\"n\":{},\"x\":[\"n\"],\"sign\":\"x\"}"), NULL, "named somewhere else");
	is_text(node("{\"n\":{},\"s\\u0069gn\":\"y\",\"sign\":\"x\"}"), NULL, "an escaped name");
	is_text(node("{\"n\":{},\"sign\":\"x\"} x"), NULL, "something behind");
	is_text(node("{\"n\":{},\"sign\":\"x\",}"), NULL, "a comma too many");
	is_text(node("{\"n\":{\"a\":\"\x81\\\"},\"sign\":\"x\"}"), "{\"a\":\"\x81\\\"}",
			"a backslash inside a character of GBK");
	is_text(node("{\"n\":{\"a\":\"\xE7\x94\xB5\\\"\"},\"sign\":\"x\"}"),
			"{\"a\":\"\xE7\x94\xB5\\\"\"}", "and one behind a character of UTF-8");
}

static void
test_wechat(void)
{
	SmWechatHeaders headers = {{"1000", 4}, {"n", 1}, {"c2ln", 4}, {NULL, 0}};
	SmBytes body = {"{}", 2};
	char message[16];

	is((int64_t) wechat_message(&headers, body, message), 10, "three lines");
	ok(memcmp(message, "1000\nn\n{}\n", 10) == 0, "each with its end");
	ok(wechat_headers_fit(&headers, 1299) && wechat_headers_fit(&headers, 701),
	   "within five minutes");
	ok(!wechat_headers_fit(&headers, 1300) && !wechat_headers_fit(&headers, 700),
	   "not at five minutes");
	headers.type = (SmBytes){"WECHATPAY2-SHA256-RSA2048", 25};
	ok(wechat_headers_fit(&headers, 1000), "the kind we know");
	headers.type.length = 24;
	ok(!wechat_headers_fit(&headers, 1000), "no other");
	headers.type.at = NULL;
	headers.signature = (SmBytes){"WECHATPAY/SIGNTEST/x", 20};
	ok(wechat_is_probe(headers.signature) && !wechat_headers_fit(&headers, 1000),
	   "a probe is not signed");
	headers.signature = (SmBytes){"c2ln", 4};
	headers.timestamp = (SmBytes){"9999999999999", 13};
	ok(!wechat_headers_fit(&headers, 1000), "a time of this world");
}

#define DAY_S 86400
#define NOON_S (20000 * (int64_t) DAY_S)

/* A certificate of a key, made by an issuer (NULL: by itself), valid for ten days around NOON_S. */
static X509 *
cert_new(const char *name, EVP_PKEY *key, X509 *issuer, EVP_PKEY *issuer_key, bool ca)
{
	X509 *cert = X509_new();
	X509_NAME *subject = X509_get_subject_name(cert);
	X509_EXTENSION *basic = X509V3_EXT_conf_nid(NULL, NULL, NID_basic_constraints,
												ca ? "critical,CA:TRUE" : "CA:FALSE");

	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 77);
	ASN1_TIME_set(X509_getm_notBefore(cert), NOON_S - 5 * DAY_S);
	ASN1_TIME_set(X509_getm_notAfter(cert), NOON_S + 5 * DAY_S);
	X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *) name, -1, -1,
							   0);
	X509_set_issuer_name(cert, X509_get_subject_name(issuer == NULL ? cert : issuer));
	X509_set_pubkey(cert, key);
	X509_add_ext(cert, basic, -1);
	X509_EXTENSION_free(basic);
	X509_sign(cert, issuer_key, EVP_sha256());
	return cert;
}

/* Certificates one after the other as text. */
static size_t
certs_text(char *text, size_t size, X509 *first, X509 *second)
{
	BIO *file = BIO_new(BIO_s_mem());
	int length;

	PEM_write_bio_X509(file, first);
	if (second != NULL)
		PEM_write_bio_X509(file, second);
	length = BIO_read(file, text, (int) size);
	BIO_free(file);
	return (size_t) length;
}

static bool
trusted(X509 *cert, X509 *between, X509 *root, X509 *other, int64_t at_s)
{
	char text[8192];
	char roots[8192];
	char pem[CRYPTO_CERT];
	size_t length = certs_text(text, sizeof(text), cert, between);
	size_t roots_length = certs_text(roots, sizeof(roots), root, other);
	const char *fault = crypto_cert_trust(text, length, roots, roots_length, at_s, pem);

	/* What comes out is the first certificate and nothing else. */
	return fault == NULL && strlen(pem) == certs_text(roots, sizeof(roots), cert, NULL) &&
		   memcmp(pem, roots, strlen(pem)) == 0;
}

static void
test_chain(void)
{
	EVP_PKEY *keys[4] = {EVP_RSA_gen(2048), EVP_RSA_gen(2048), EVP_RSA_gen(2048),
						 EVP_EC_gen("P-256")};
	X509 *root = cert_new("Root", keys[0], NULL, keys[0], true);
	X509 *twin = cert_new("Root", keys[1], NULL, keys[1], true);
	X509 *curve = cert_new("Curve", keys[3], NULL, keys[3], true);
	X509 *between = cert_new("Between", keys[1], root, keys[0], true);
	X509 *direct = cert_new("支付宝", keys[2], root, keys[0], false);
	X509 *below = cert_new("支付宝", keys[2], between, keys[1], false);
	X509 *neighbour = cert_new("Neighbour", keys[1], root, keys[0], false);
	X509 *forged = cert_new("支付宝", keys[2], neighbour, keys[1], false);
	X509 *curved = cert_new("支付宝", keys[2], curve, keys[3], false);
	X509 *bent = cert_new("支付宝", keys[3], root, keys[0], false);
	char text[8192];
	char pem[CRYPTO_CERT];
	char name[CRYPTO_NAME];
	int64_t until_s;
	size_t length = certs_text(text, sizeof(text), direct, root);

	ok(trusted(direct, NULL, curve, root, NOON_S),
	   "made by a root, which is not the first of its file");
	ok(trusted(below, between, root, NULL, NOON_S), "with one between that comes along");
	ok(!trusted(below, NULL, root, NULL, NOON_S), "which cannot be missing");
	ok(!trusted(direct, root, twin, NULL, NOON_S),
	   "not by a root that comes along, and not by one of its name");
	ok(!trusted(forged, neighbour, root, NULL, NOON_S), "not by somebody whom the root only knows");
	ok(!trusted(curved, NULL, root, curve, NOON_S), "a root that is not RSA does not count");
	ok(!trusted(bent, NULL, root, NULL, NOON_S), "nor does such a key");
	ok(!trusted(direct, NULL, root, NULL, NOON_S + 6 * DAY_S), "not when it has expired");
	ok(!trusted(direct, NULL, root, NULL, NOON_S - 6 * DAY_S), "nor too early");
	ok(crypto_cert_trust("", 0, text, length, NOON_S, pem) != NULL &&
		   crypto_cert_trust(text, length, "", 0, NOON_S, pem) != NULL && pem[0] == '\0',
	   "nothing is nothing");
	ok(crypto_cert_read(text, length, &until_s, name) && until_s == NOON_S + 5 * DAY_S &&
		   strcmp(name, "支付宝") == 0,
	   "until when and for whom");
	ok(!crypto_cert_read("x", 1, &until_s, name), "no certificate says neither");
	X509_free(root);
	X509_free(twin);
	X509_free(curve);
	X509_free(between);
	X509_free(direct);
	X509_free(below);
	X509_free(neighbour);
	X509_free(forged);
	X509_free(curved);
	X509_free(bent);
	for (int i = 0; i < 4; i++)
		EVP_PKEY_free(keys[i]);
}

static void
test_secret_keys(void)
{
	static const char list[] =
		"# the keys\n\n 0001020304050607080910111213141516171819202122232425262728293031 \r\n"
		"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
	SmSecretKey keys[SECRET_KEYS_MAX];
	int line;

	is(secret_keys_read(list, strlen(list), keys, &line), 2, "hexadecimal and base64");
	is(keys[0].key[31], 0x31, "the first one seals");
	is(keys[1].key[31], 31, "the second one is an earlier one");
	ok(memcmp(keys[0].id, keys[1].id, SECRET_KEY_ID) != 0, "they have names");
	is(secret_keys_read("AAAA", 4, keys, &line), -1, "too short");
	is(secret_keys_read("#\n\nxyz\n", 7, keys, &line), -1, "no key");
	is(line, 3, "in this line");
	is(secret_keys_read("\n# none\n", 8, keys, &line), 0, "none at all");
}

int
main(void)
{
	test_keys();
	test_gcm();
	test_base64();
	test_form();
	test_node();
	test_wechat();
	test_chain();
	test_secret_keys();
	return tap_done();
}
