noinst_LTLIBRARIES += libtc-site.la
libtc_site_la_SOURCES = \
	src/site/hidden.c src/site/hidden.h \
	src/site/hook.c src/site/hook.h \
	src/site/jobagent.c src/site/jobagent.h \
	src/site/jobdir.c src/site/jobdir.h \
	src/site/jobgroup.c src/site/jobgroup.h \
	src/site/launch.c src/site/launch.h \
	src/site/launch_request.c src/site/launch_request.h \
	src/site/program.c src/site/program.h \
	src/site/resource.c src/site/resource.h \
	src/site/launch_helper.c src/site/launch_helper.h \
	src/site/trash.c src/site/trash.h
