# Everything but main, so that unit tests can link it too.
noinst_LTLIBRARIES += libtc-cli.la
libtc_cli_la_SOURCES = \
	src/cli/cli.h \
	src/cli/cmd_attach.c \
	src/cli/cmd_clean.c \
	src/cli/cmd_completion.c \
	src/cli/cmd_hook.c src/cli/cmd_hook_own.h \
	src/cli/cmd_hook_life.c \
	src/cli/cmd_hosts.c \
	src/cli/cmd_keygen.c \
	src/cli/cmd_list.c \
	src/cli/cmd_plan.c \
	src/cli/cmd_recv.c \
	src/cli/cmd_rm.c \
	src/cli/cmd_send.c \
	src/cli/cmd_launch_helper.c \
	src/cli/cmd_status.c \
	src/cli/cmd_verify.c \
	src/cli/cmd_wait.c \
	src/cli/config.c \
	src/cli/help.c \
	src/cli/host_options.c src/cli/host_options.h \
	src/cli/key_options.c src/cli/key_options.h \
	src/cli/launch_options.c src/cli/launch_options.h \
	src/cli/nearest.c src/cli/nearest.h \
	src/cli/outlet.c src/cli/outlet.h \
	src/cli/port_options.c src/cli/port_options.h \
	src/cli/report.c src/cli/report.h \
	src/cli/show.c src/cli/show.h \
	src/cli/size.c src/cli/size.h \
	src/cli/topology_options.c src/cli/topology_options.h \
	src/cli/values.c src/cli/values.h \
	src/cli/verbs.c
libtc_cli_la_LIBADD = \
	libtc-node.la libtc-site.la libtc-session.la libtc-api.la libtc-api-client.la libtc-net.la libtc-file.la libtc-plan.la \
	libtc-data.la libtc-base.la \
	$(SSL_LIBS) $(CRYPTO_LIBS) $(EVENT_LIBS) $(ZSTD_LIBS) $(JANSSON_LIBS) $(INIH_LIBS) $(SMARTCOLS_LIBS) $(CAPNG_LIBS) -lm

bin_PROGRAMS += treecast
treecast_SOURCES = src/cli/main.c
treecast_LDADD = libtc-cli.la

# Completion comes from the option tables, by the program itself, so it is made after it and not shipped.
bashcompletiondir = $(bashcompdir)
zshcompletiondir = $(datadir)/zsh/site-functions
nodist_bashcompletion_DATA = contrib/completion/treecast
nodist_zshcompletion_DATA = contrib/completion/_treecast
CLEANFILES += contrib/completion/treecast contrib/completion/_treecast

contrib/completion/treecast: treecast$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ./treecast$(EXEEXT) completion bash >$@.tmp && mv $@.tmp $@

contrib/completion/_treecast: treecast$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) $(@D) && ./treecast$(EXEEXT) completion zsh >$@.tmp && mv $@.tmp $@

# The verbs as processes; what needs no agent.
test_scripts += tests/scenario/cli.py
