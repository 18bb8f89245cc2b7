/*
 * tls.c - TLS around a connection
 *
 * A listening port is the server, a dialling one the client. With a CA the peer must show a
 * certificate of it; a dialling port then also wants the peer's name to be what it called.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "dial.h"
#include "tls.h"

typedef struct SmTls
{
	SSL_CTX *context;
	bool checks;
} SmTls;

/* Says what OpenSSL did not like. */
static bool
tls_fail(SmError *error, const char *what)
{
	char reason[160] = "";

	ERR_error_string_n(ERR_get_error(), reason, sizeof(reason));
	ERR_clear_error();
	return farm_fail(error, "could not read %.60s: %s", what, reason);
}

/* Reads "CERT,KEY[,CA]" (for a client CERT and KEY may be empty) and readies a port for TLS. */
bool
tls_load(SmPort *port, char *files, SmError *error)
{
	bool client = port->door == DOOR_DIAL;
	SmTls *tls = farm_alloc(sizeof(SmTls));
	char *certificate = strsep(&files, ",");
	char *key = strsep(&files, ",");

	port->tls = tls;
	tls->context = SSL_CTX_new(client ? TLS_client_method() : TLS_server_method());
	if (tls->context == NULL)
		abort();
	SSL_CTX_set_mode(tls->context,
					 SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (key == NULL)
		return farm_fail(error, "tls wants CERT,KEY[,CA]");
	if (*certificate != '\0' && SSL_CTX_use_certificate_chain_file(tls->context, certificate) != 1)
		return tls_fail(error, certificate);
	if (*key != '\0' && SSL_CTX_use_PrivateKey_file(tls->context, key, SSL_FILETYPE_PEM) != 1)
		return tls_fail(error, key);
	if (files == NULL)
		return true;
	tls->checks = true;
	SSL_CTX_set_verify(tls->context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	if (SSL_CTX_load_verify_locations(tls->context, files, NULL) != 1)
		return tls_fail(error, files);
	return true;
}

/* Puts TLS on a new connection; the handshake follows when the connection stands. */
bool
tls_begin(SmConnection *connection)
{
	const SmPort *port = connection->port;

	connection->ssl = SSL_new(port->tls->context);
	if (connection->ssl == NULL || SSL_set_fd(connection->ssl, connection->fd) != 1)
		return false;
	connection->shaking = true;
	if (port->door != DOOR_DIAL)
	{
		SSL_set_accept_state(connection->ssl);
		return true;
	}
	SSL_set_connect_state(connection->ssl);
	return !port->tls->checks || dial_name(port, connection->ssl);
}

/* Maps what OpenSSL says about a call that did not work to errno, as read and write have it. */
static ssize_t
tls_result(SmConnection *connection, int result)
{
	int why;

	if (result > 0)
		return result;
	why = SSL_get_error(connection->ssl, result);
	ERR_clear_error();
	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : EIO;
	return -1;
}

/* Goes on with the handshake; false when it has failed. */
bool
tls_shake(SmConnection *connection)
{
	ssize_t result;

	ERR_clear_error();
	result = tls_result(connection, SSL_do_handshake(connection->ssl));
	if (result > 0)
		connection->shaking = false;
	return result > 0 || (result < 0 && errno == EAGAIN);
}

/* Tells whether the handshake waits for room to send. */
bool
tls_wants_write(const SmConnection *connection)
{
	return connection->ssl != NULL && connection->shaking && SSL_want_write(connection->ssl);
}

/* Like read. */
ssize_t
tls_read(SmConnection *connection, uint8_t *bytes, size_t length)
{
	ERR_clear_error();
	return tls_result(connection, SSL_read(connection->ssl, bytes, (int) length));
}

/* Like write. */
ssize_t
tls_write(SmConnection *connection, const uint8_t *bytes, size_t length)
{
	ERR_clear_error();
	return tls_result(connection, SSL_write(connection->ssl, bytes, (int) length));
}

/* Takes TLS off a connection that is about to be closed. */
void
tls_end(SmConnection *connection)
{
	if (connection->ssl == NULL)
		return;
	if (!connection->shaking && !connection->abandoned)
		SSL_shutdown(connection->ssl);
	SSL_free(connection->ssl);
	connection->ssl = NULL;
	ERR_clear_error();
}

/* Releases what a port needs for TLS. */
void
tls_free(SmPort *port)
{
	if (port->tls == NULL)
		return;
	SSL_CTX_free(port->tls->context);
	free(port->tls);
}
