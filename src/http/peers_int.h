/* Open connections counted by address. IPv6 peers are counted by their /64, which one host may own.
 */
#ifndef HTTP_PEERS_INT_H
#define HTTP_PEERS_INT_H

#include <stdint.h>
#include <sys/socket.h>

struct http_peers;
struct http_peer;

struct http_peers *http_peers_create(void);
void http_peers_destroy(struct http_peers *p); /* when all are put back */
/* One more connection from there, unless limit (0: none) are open: NULL then. */
struct http_peer *http_peers_take(
	struct http_peers *p, const struct sockaddr_storage *from, uint32_t limit);
void http_peers_put(struct http_peers *p, struct http_peer *peer);

#endif
