# For batch systems and systemd: scripts and units that know where the program is. Installed below DATADIR/treecast.
slurmhookdir = $(pkgdatadir)/slurm
pbshookdir = $(pkgdatadir)/pbs
lsfhookdir = $(pkgdatadir)/lsf
sgehookdir = $(pkgdatadir)/sge
fluxhookdir = $(pkgdatadir)/flux
systemdhookdir = $(pkgdatadir)/systemd

nodist_slurmhook_SCRIPTS = contrib/slurm/prolog contrib/slurm/epilog contrib/slurm/task-prolog
dist_slurmhook_SCRIPTS = contrib/slurm/job.sh
nodist_pbshook_SCRIPTS = contrib/pbs/prologue contrib/pbs/epilogue
nodist_pbshook_DATA = contrib/pbs/treecast_hook.py
nodist_lsfhook_SCRIPTS = contrib/lsf/pre_exec contrib/lsf/post_exec
nodist_sgehook_SCRIPTS = contrib/sge/prolog contrib/sge/epilog
nodist_fluxhook_SCRIPTS = contrib/flux/prolog contrib/flux/epilog
nodist_fluxhook_DATA = contrib/flux/treecast.lua
nodist_systemdhook_DATA = contrib/systemd/treecast-recv@.service
dist_systemdhook_DATA = contrib/systemd/treecast-recv@.socket contrib/systemd/treecast-tmpfiles.conf \
	contrib/systemd/treecast-recv-sysusers.conf contrib/systemd/treecast-recv-tmpfiles.conf

# sbcast's options and places over treecast.
nodist_bin_SCRIPTS = contrib/treecast-sbcast

contrib_made = \
	$(nodist_bin_SCRIPTS) \
	$(nodist_slurmhook_SCRIPTS) \
	$(nodist_pbshook_SCRIPTS) $(nodist_pbshook_DATA) \
	$(nodist_lsfhook_SCRIPTS) \
	$(nodist_sgehook_SCRIPTS) \
	$(nodist_fluxhook_SCRIPTS) $(nodist_fluxhook_DATA) \
	$(nodist_systemdhook_DATA)
EXTRA_DIST += $(contrib_made:=.in)
CLEANFILES += $(contrib_made)

$(contrib_made): %: %.in Makefile
	$(AM_V_GEN)$(MKDIR_P) $(@D) && sed 's|@bindir''@|$(bindir)|g' $< >$@.tmp && chmod 755 $@.tmp && mv $@.tmp $@

# --treecast=FILE[:NAME] for srun, sbatch and salloc: LIBDIR/treecast/spank_treecast.so, named in plugstack.conf.
EXTRA_DIST += contrib/slurm/spank_treecast.c
if HAVE_SLURM
pkglib_LTLIBRARIES = spank_treecast.la
spank_treecast_la_SOURCES = contrib/slurm/spank_treecast.c
spank_treecast_la_CPPFLAGS = -D_GNU_SOURCE -DTREECAST_PROGRAM='"$(bindir)/treecast"'
spank_treecast_la_LDFLAGS = -module -avoid-version -shared
endif

# The README's two commands on another release of Debian, in a system that debootstrap makes; as root: a quarter of an hour.
SUITE = trixie
elsewhere:
	$(srcdir)/contrib/elsewhere '$(SUITE)'
.PHONY: elsewhere
