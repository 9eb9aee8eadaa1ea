noinst_LTLIBRARIES += libtc-api-client.la libtc-api.la
libtc_api_client_la_SOURCES = \
	src/api/client.c src/api/client.h \
	src/api/api.h
libtc_api_la_SOURCES = \
	src/api/server.c src/api/server.h src/api/server_own.h \
	src/api/server_peer.c \
	src/api/server_request.c \
	src/api/server_socket.c \
	src/api/server_users.c
