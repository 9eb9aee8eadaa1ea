noinst_LTLIBRARIES += libtc-site.la
libtc_site_la_SOURCES = \
	src/site/hook.c src/site/hook.h \
	src/site/jobdir.c src/site/jobdir.h \
	src/site/process.c src/site/process.h \
	src/site/resource.c src/site/resource.h
