noinst_LTLIBRARIES += libtc-site.la
libtc_site_la_SOURCES = \
	src/site/process.c src/site/process.h \
	src/site/resource.c src/site/resource.h
