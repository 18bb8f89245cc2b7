/*
 * tls.c - links wrapped in TLS
 *
 * The other side is always somebody: when we connect, its certificate must be for the name or
 * number that was dialled and by an authority we believe; a device that dials in is told by its
 * registration and, where --tls-require-client is given, by its certificate, too.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "tls.h"

static SSL_CTX *tls_dialling;
static SSL_CTX *tls_listening;
static SmTlsFiles tls_files;
static bool tls_ready;
static char tls_text[160]; /* the last failure */

/* The first reason OpenSSL gives for a failure; its list is empty afterwards. */
static const char *
tls_reason(void)
{
	unsigned long code = ERR_get_error();
	const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

	ERR_clear_error();
	return reason != NULL ? reason : "no reason given";
}

/* What both sides have in common: no old versions, little memory while nothing happens. */
static SSL_CTX *
tls_create(const SSL_METHOD *method)
{
	SSL_CTX *context = SSL_CTX_new(method);

	if (context == NULL)
		return NULL;
	SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
	SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	return context;
}

/* Reads who we are into a context; false when the files are of no use. */
static bool
tls_load_own(SSL_CTX *context, const SmTlsFiles *files)
{
	const char *key = files->key != NULL ? files->key : files->cert;

	return files->cert == NULL ||
		   (SSL_CTX_use_certificate_chain_file(context, files->cert) == 1 &&
			SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1 &&
			SSL_CTX_check_private_key(context) == 1);
}

static bool
tls_load_authorities(SSL_CTX *context, const SmTlsFiles *files)
{
	return files->ca != NULL ? SSL_CTX_load_verify_locations(context, files->ca, NULL) == 1
							 : SSL_CTX_set_default_verify_paths(context) == 1;
}

/* Reads the certificates; false and why when they are of no use. */
static bool
tls_prepare(char *why, size_t size)
{
	const SmTlsFiles *files = &tls_files;
	const char *what = NULL;

	tls_ready = true;
	ERR_clear_error();
	tls_dialling = tls_create(TLS_client_method());
	tls_listening = tls_create(TLS_server_method());
	if (tls_dialling == NULL || tls_listening == NULL)
		what = "TLS cannot be used";
	else if (!tls_load_authorities(tls_dialling, files) ||
			 !tls_load_authorities(tls_listening, files))
		what = "--tls-ca is of no use";
	else if (!tls_load_own(tls_dialling, files) || !tls_load_own(tls_listening, files))
		what = "--tls-cert and --tls-key are of no use";
	if (what != NULL)
	{
		snprintf(why, size, "%s: %s", what, tls_reason());
		tls_teardown();
		return false;
	}
	SSL_CTX_set_verify(tls_dialling, SSL_VERIFY_PEER, NULL);
	if (files->require_client)
		SSL_CTX_set_verify(tls_listening, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (files->cert == NULL)
	{
		SSL_CTX_free(tls_listening);
		tls_listening = NULL;
	}
	return true;
}

/*
 * Says which certificates are to be used. They are read now when there are any, so that a wrong
 * name is told at once; else when the first link needs them, for the system's authorities take
 * more memory than a thousand links.
 */
bool
tls_setup(const SmTlsFiles *files, char *why, size_t size)
{
	tls_files = *files;
	return (files->ca == NULL && files->cert == NULL) || tls_prepare(why, size);
}

void
tls_teardown(void)
{
	SSL_CTX_free(tls_dialling);
	SSL_CTX_free(tls_listening);
	tls_dialling = NULL;
	tls_listening = NULL;
}

/* Asks for a certificate that is for this name or number. */
static bool
tls_expect(SSL *tls, const char *name)
{
	X509_VERIFY_PARAM *wanted = SSL_get0_param(tls);

	if (X509_VERIFY_PARAM_set1_ip_asc(wanted, name) == 1)
		return true;
	X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return X509_VERIFY_PARAM_set1_host(wanted, name, 0) == 1 &&
		   SSL_set_tlsext_host_name(tls, name) == 1;
}

/*
 * Wraps the connection of a link: as the one who called peer_name, or, without a name, as the one
 * who was called. NULL, or what went wrong.
 */
const char *
tls_begin(SmLink *link, const char *peer_name)
{
	SSL_CTX *context;
	SSL *tls;

	if (!tls_ready && !tls_prepare(tls_text, sizeof(tls_text)))
		tls_ready = false;
	context = peer_name != NULL ? tls_dialling : tls_listening;
	tls = context != NULL ? SSL_new(context) : NULL;
	ERR_clear_error();
	if (!tls_ready)
		return tls_text;
	if (context == NULL)
		return "TLS: --tls-cert and --tls-key are needed for devices that dial in";
	if (tls == NULL || SSL_set_fd(tls, link->fd) != 1 ||
		(peer_name != NULL && !tls_expect(tls, peer_name)))
	{
		SSL_free(tls);
		return "TLS cannot be used on this connection";
	}
	if (peer_name != NULL)
		SSL_set_connect_state(tls);
	else
		SSL_set_accept_state(tls);
	link->tls = tls;
	return NULL;
}

/* Why a greeting failed, in words. */
static const char *
tls_explain(const SSL *tls, bool hung_up)
{
	long verdict = SSL_get_verify_result(tls);
	const char *text;

	switch (verdict)
	{
		case X509_V_OK:
			text = hung_up ? "the other side hung up during the greeting" : tls_reason();
			break;
		case X509_V_ERR_CERT_HAS_EXPIRED:
			text = "the other side's certificate has expired";
			break;
		case X509_V_ERR_CERT_NOT_YET_VALID:
			text = "the other side's certificate is not valid yet";
			break;
		case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
		case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
		case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
			text = "the other side's certificate is by no authority we know";
			break;
		case X509_V_ERR_HOSTNAME_MISMATCH:
		case X509_V_ERR_IP_ADDRESS_MISMATCH:
			text = "the other side's certificate is for another name";
			break;
		default:
			text = X509_verify_cert_error_string(verdict);
	}
	snprintf(tls_text, sizeof(tls_text), "TLS: %s", text);
	ERR_clear_error();
	return tls_text;
}

/* Goes on with the greeting as far as it can without waiting. */
SmTlsState
tls_step(SmLink *link, const char **why)
{
	SSL *tls = link->tls;
	int done;
	int error;

	ERR_clear_error();
	done = SSL_do_handshake(tls);
	if (done == 1)
		return TLS_DONE;
	error = SSL_get_error(tls, done);
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
	{
		loop_watch(link->loop, &link->watch, link->fd,
				   error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
		return TLS_WAITING;
	}
	*why = tls_explain(tls, error == SSL_ERROR_SYSCALL || error == SSL_ERROR_ZERO_RETURN ||
								ERR_peek_error() == 0);
	return TLS_FAILED;
}

/* Says good-bye, as far as that goes without waiting, and forgets the wrapping. */
void
tls_end(SmLink *link)
{
	SSL *tls = link->tls;

	link->tls = NULL;
	if (tls == NULL)
		return;
	ERR_clear_error();
	if (link->state == LINK_OPEN)
		SSL_shutdown(tls);
	ERR_clear_error();
	SSL_free(tls);
}

/* Whether bytes have been unpacked that nobody has taken yet. */
bool
tls_has_more(const SmLink *link)
{
	return link->tls != NULL && SSL_has_pending(link->tls) == 1;
}

/* As link_send(). What OpenSSL could not send whole is of no use to the other side. */
ssize_t
tls_send(SmLink *link, const uint8_t *bytes, size_t length, const char **why)
{
	int sent;
	int error;

	ERR_clear_error();
	sent = SSL_write(link->tls, bytes, (int) length);
	if (sent > 0)
		return sent;
	error = SSL_get_error(link->tls, sent);
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return 0;
	*why = error == SSL_ERROR_SYSCALL && errno != 0 ? strerror(errno)
													: "the gateway closed the connection";
	ERR_clear_error();
	return -1;
}

/* As link_receive(). */
ssize_t
tls_receive(SmLink *link, uint8_t *bytes, size_t room, const char **why)
{
	int got;
	int error;

	ERR_clear_error();
	errno = 0;
	got = SSL_read(link->tls, bytes, (int) room);
	if (got > 0)
		return got;
	error = SSL_get_error(link->tls, got);
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE)
		return 0;
	if (error == SSL_ERROR_SSL)
		*why = tls_explain(link->tls, false);
	else
		*why = error == SSL_ERROR_SYSCALL && errno != 0 ? strerror(errno)
														: "the gateway closed the connection";
	ERR_clear_error();
	return -1;
}
