noinst_LTLIBRARIES += libtc-door-client.la libtc-door.la
libtc_door_client_la_SOURCES = \
	src/door/client.c src/door/client.h \
	src/door/door.h
libtc_door_la_SOURCES = \
	src/door/server.c src/door/server.h src/door/server_own.h \
	src/door/server_peer.c \
	src/door/server_request.c \
	src/door/server_socket.c \
	src/door/server_users.c
