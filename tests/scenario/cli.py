#!/usr/bin/python3
"""The verbs as people meet them, on one host and without a broadcast: help, options, configuration, keys, files. TAP."""

import hashlib
import json
import os
import re
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import traceback

TREECAST = os.path.abspath(os.environ.get("TREECAST") or "treecast")
TOP = os.environ.get("top_srcdir") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
VERBS = "send recv wait attach list status verify rm clean keygen plan hosts".split()


class Answer:
    """What a run said and its exit code."""

    def __init__(self, done):
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __str__(self):
        return f"exit {self.code}\nout: {self.out}\nerr: {self.err}"


class Place:
    """A folder with a home of its own; nothing of the caller's environment gets in."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(self.path("home/.config/treecast"))

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text, mode=0o644):
        with open(self.path(name), "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def run(self, *words, stdin="", **variables):
        environment = {"PATH": "/usr/bin:/bin", "HOME": self.path("home"), "TREECAST_DIR": self.path("arrays")}
        for name, value in os.environ.items():
            if name.endswith("SAN_OPTIONS"):
                environment[name] = value
        environment.update(variables)
        done = subprocess.run([TREECAST, *words], input=stdin, capture_output=True, text=True, check=False, timeout=60,
                              env=environment, cwd=self.folder)
        return Answer(done)
SPOKEN = {"trust"}  # options that count on the command line only


def expect(answer, code, out=None, err=None):
    assert answer.code == code, f"expected exit {code}\n{answer}"
    assert out is None or out in answer.out, f"expected on standard output: {out}\n{answer}"
    assert err is None or err in answer.err, f"expected on standard error: {err}\n{answer}"
    assert code == 0 or answer.err.count("\n") <= 1, f"expected one line at most\n{answer}"
    return answer


def long_options(text):
    return set(re.findall(r"^ +(?:-\w, |    )--([\w-]+)", text, re.M))


def test_overview(place):
    """the overview names every verb, on standard error and with exit 2 when none was given"""
    answer = expect(place.run("-h"), 0)
    for verb in VERBS:
        assert re.search(rf"^  {verb} ", answer.out, re.M), f"{verb} is missing\n{answer}"
    assert place.run("help").out == answer.out
    bare = place.run()
    assert bare.code == 2 and bare.err == answer.out and not bare.out, str(bare)


def test_version(place):
    """-V and --version print one line"""
    answer = expect(place.run("-V"), 0)
    assert re.fullmatch(r"treecast \S+\n", answer.out), str(answer)
    assert place.run("--version").out == answer.out


def test_help_and_manual(place):
    """every option of every verb is in its help, in the environment's list and in the manual"""
    with open(os.path.join(TOP, "doc", "treecast.1"), encoding="utf-8") as page:
        manual = page.read()
    for verb in VERBS:
        answer = expect(place.run(verb, "-h"), 0)
        assert place.run("help", verb).out == answer.out == place.run(verb, "--help").out
        options = long_options(answer.out) - {"help"}
        assert options, str(answer)
        for option in options:
            variable = "TREECAST_" + option.upper().replace("-", "_")
            assert bool(re.search(rf"\b{variable}\b", answer.out)) == (option not in SPOKEN), f"{verb}: {variable}"
            assert re.search(rf"Fl -{option}\b", manual), f"{verb} --{option} is not in treecast.1"


def test_send_and_recv_options(place):
    """send and recv have the letters that people know from pdsh, sbcast and rsync"""
    send, recv = place.run("send", "-h").out, place.run("recv", "-h").out
    for line in ("-w, --hosts", "-x, --exclude", "-p, --port", "-k, --key-file", "-s, --chunk", "-C, --compress",
                 "-F, --tree", "-f, --force", "-t, --deadline", "-n, --dry-run", "-q, --quiet", "-v, --verbose"):
        assert line in send, line
    for line in ("-d, --dir", "-l, --listen", "-k, --key-file"):
        assert line in recv, line


def test_unknown(place):
    """an unknown option or verb is one line and exit 2, and a near verb is suggested"""
    for verb in VERBS:
        expect(place.run(verb, "--no-such-option"), 2, err="--no-such-option")
    expect(place.run("snd"), 2, err="did you mean 'send'?")
    expect(place.run("recieve"), 2, err="no verb 'recieve'")
    expect(place.run("help", "atach"), 2, err="'attach'")
    for word, meant in (("ls", "list"), ("remove", "rm"), ("get", "attach"), ("version", "--version"), ("push", "send")):
        expect(place.run(word), 2, err=f"no verb '{word}'; here it is '{meant}'")
    expect(place.run("send", "--hosst", "a"), 2, err="unknown option --hosst; did you mean --hosts?")
    expect(place.run("send", "--bwlimt=1M", "x"), 2, err="did you mean --bwlimit?")
    answer = expect(place.run("send", "--xyzzy"), 2, err="unknown option --xyzzy (see")
    assert "did you mean" not in answer.err, str(answer)


def test_operands(place):
    """too few and too many operands are usage errors"""
    for words in (("send",), ("send", "a", "b", "c"), ("recv", "x"), ("wait",), ("attach",), ("rm",), ("keygen",),
                  ("verify",), ("clean", "x")):
        expect(place.run(*words), 2)
    expect(place.run("attach", "A", "ls"), 2, err="put -- between")


def test_hosts(place):
    """hosts folds, expands and counts"""
    assert place.run("hosts", "n2,n1,n[3-5]").out == "n[1-5]\n"
    assert place.run("hosts", "-e", "n[9-10]", "m").out.split() == ["n9", "n10", "m"]
    assert place.run("hosts", "-c", "n[001-128,200]").out == "129\n"
    assert place.run("hosts", "-x", "n2", "n[1-3]").out == "n[1,3]\n"
    assert place.run("hosts", "-", stdin="a # b\nc\n").out == "a,c\n"
    expect(place.run("hosts", "n[3-"), 2)


def test_plan(place):
    """plan needs hosts, and tells the tree it would take"""
    expect(place.run("plan"), 2, err="-w LIST")
    expect(place.run("plan", "-w", "n[1-32]", "--size", "64M"), 0, out="double: 64 MiB to 32 hosts")
    expect(place.run("plan", "-w", "n[1-32]", "--size", "1G"), 0, out="double: 1 GiB to 32 hosts")
    listed = place.write("wcoll", "n[1-3]\nn4\n")
    expect(place.run("plan", "-F", "chain", WCOLL=listed), 0, out="4 hosts")
    expect(place.run("plan", "-w", "n1", "-F", "oak"), 2)
    plan = json.loads(place.run("plan", "-w", "n[1-3]", "--json").out)
    assert plan["schema"] == 1 and plan["hosts"] == 3, plan


def test_keygen(place):
    """keygen makes two files of mode 0600, replaces nothing, and --group-only makes one"""
    key, group = place.path("key"), place.path("group")
    expect(place.run("keygen", key), 0)
    for name in (key, key + ".origin"):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600, name
    before = open(key, encoding="ascii").read()
    expect(place.run("keygen", key), 1, err="key")
    assert open(key, encoding="ascii").read() == before
    expect(place.run("keygen", "--group-only", group), 0)
    assert not os.path.exists(group + ".origin")
    shutil.copy(key, place.path("open-key"))
    os.chmod(place.path("open-key"), 0o644)
    expect(place.run("send", "-k", place.path("open-key"), "-w", "127.0.0.1", key), 2, err="chmod 600")
    os.unlink(key + ".origin")
    expect(place.run("send", "-k", key, "-w", "127.0.0.1", key), 4, err="--origin-key")


def test_no_key_no_network(place):
    """without a key send and recv touch nothing but loopback, and say what to do"""
    source = place.write("data", "x")
    expect(place.run("send", "-w", "node7", source), 2, err="without a key only loopback is allowed")
    expect(place.run("send", "-w", "127.0.0.1,10.1.2.3:7117", source), 2, err="treecast keygen")
    expect(place.run("recv", "-l", "0.0.0.0:0"), 2, err="without a key only loopback is allowed")
    expect(place.run("recv", "-l", "[::]:0", "--detach"), 2, err="treecast keygen")
    assert not os.path.exists(place.path("arrays"))


def test_send_usage(place):
    """what send cannot do is said before anything moves"""
    source, array = place.write("data", "x" * 16), place.write("a.npy", "x")
    expect(place.run("send", source), 2, err="no hosts")
    expect(place.run("send", "-w", "n[1-2]", "-x", "n[1-2]", source), 2, err="excluded")
    expect(place.run("send", "--hostfile", "nowhere", source), 2, err="nowhere")
    expect(place.run("send", "-w", "127.0.0.1", "--chunk", "96K", source), 2, err="power of two")
    expect(place.run("send", "-w", "127.0.0.1", "--chunk", "8M", source), 2, err="4 MiB")
    for ports in ("0", "65536", "80x", "", "7117,", ",7117", "1,,2", "7117 ", "-1", ",".join(["7117"] * 33)):
        expect(place.run("send", "-w", "127.0.0.1", f"--port={ports}", source), 2, err="--port: ")
    expect(place.run("send", "-w", "127.0.0.1", "-C", "gzip", source), 2)
    expect(place.run("send", "-w", "127.0.0.1", "-F", "oak", source), 2)
    expect(place.run("send", "-w", "127.0.0.1", "--shape", "4", source), 2, err="--dtype")
    expect(place.run("send", "-w", "127.0.0.1", "--dtype", "<f8", array), 2, err="--raw")
    expect(place.run("send", "-w", "127.0.0.1", source, "../evil"), 2)
    for value in ("0", "2", "101%", "0%", "x", "-1"):
        expect(place.run("send", "-w", "127.0.0.1", "--min-hosts", value, source), 2, err="--min-hosts")
    answer = place.run("send", "--json", "-w", "node7", source)
    last = json.loads(answer.out)
    assert answer.code == 2 and last["type"] == "error" and last["exit"] == 2 and last["schema"] == 1, str(answer)
    assert last["reason"] == "policy" and "keygen" in last["text"], str(answer)


def test_recv_usage(place):
    """recv refuses modes with write bits and users that do not exist"""
    expect(place.run("recv", "--mode", "664"), 2, err="--mode")
    expect(place.run("recv", "--mode", "9"), 2, err="octal")
    expect(place.run("recv", "--allow-user", "no such user"), 2, err="no such user")
    expect(place.run("recv", "--group", "no such group"), 2, err="no such group")


def test_nothing_here(place):
    """an empty directory lists as nothing, and what is not there is not found"""
    os.makedirs(place.path("empty/.treecast"))
    here = ("-d", place.path("empty"))
    assert expect(place.run("list", *here), 0).out == ""
    assert expect(place.run("list", "--json", *here), 0).out == ""
    expect(place.run("list", "A", *here), 1, err="A")
    expect(place.run("rm", "A", *here), 1, err="A")
    expect(place.run("verify", "A", *here), 1, err="A")
    expect(place.run("status", *here), 1)
    expect(place.run("list", "-d", place.path("nowhere")), 1, err="nowhere")
    expect(place.run("rm", "../A", *here), 2)
    expect(place.run("wait", "A", "-t", "0.1", *here), 7)
    expect(place.run("attach", "A", "-t", "0.1", *here), 7)
    expect(place.run("attach", "A", "-t", "0.1", *here, "--", "true"), 7)


def publish(place, name, data, array):
    """Put an array into DIR by hand, as the agent leaves it. Returns its path."""
    os.makedirs(place.path("arrays/.treecast"), exist_ok=True)
    path = place.path(f"arrays/{name}")
    with open(path, "wb") as out:
        out.write(data)
    os.chmod(path, 0o444)
    blocks = (hashlib.sha256(data[at:at + 65536]).digest() for at in range(0, len(data), 65536))
    description = {"schema": 1, "name": name, "size": len(data), "digest": hashlib.sha256(b"".join(blocks)).hexdigest(),
                   "session": "00" * 16, "created": 1700000000, "array": array}
    with open(place.path(f"arrays/.treecast/{os.stat(path).st_ino}.json"), "w", encoding="ascii") as out:
        json.dump(description, out)
    return path


def test_published(place):
    """list, attach, verify and rm know a published array"""
    array = {"dtype": "<f8", "shape": [10, 1000], "order": "F", "offset": 128, "item_size": 8}
    path = publish(place, "A.npy", bytes(range(256)) * 312 + bytes(256), array)
    expect(place.run("list"), 0, out="10,1000")
    shown = json.loads(place.run("list", "--json").out)
    assert shown["name"] == "A.npy" and shown["size"] == 80128 and shown["shape"] == [10, 1000], shown
    assert place.run("wait", "A.npy").out == place.run("attach", "A.npy").out == path + "\n"
    shown = json.loads(place.run("attach", "A.npy", "--format", "json").out)
    assert (shown["path"], shown["offset"], shown["order"], shown["dtype"]) == (path, 128, "F", "<f8"), shown
    words = "echo " + " ".join(f'"$TREECAST_ARRAY_{name}"' for name in ("PATH", "OFFSET", "DTYPE", "SHAPE", "ORDER"))
    wanted = f"{path} 128 <f8 10,1000 F\n"
    assert place.run("attach", "A.npy", "--", "sh", "-c", words).out == wanted
    exports = place.run("attach", "A.npy", "--format", "sh").out
    done = subprocess.run(["sh", "-c", exports + words], capture_output=True, text=True, check=True)
    assert done.stdout == wanted, done
    expect(place.run("verify", "A.npy"), 0, out="A.npy: good")
    expect(place.run("rm", "A.npy"), 0)
    assert not os.path.exists(path)
    assert not [name for name in os.listdir(place.path("arrays/.treecast")) if name.endswith(".json")]


def test_plain_bytes(place):
    """plain bytes have a path and an offset and no type"""
    path = publish(place, "blob", b"x" * 70000, None)
    shown = json.loads(place.run("attach", "blob", "--format", "json").out)
    assert shown["path"] == path and shown["dtype"] is None and shown["shape"] is None, shown
    words = 'echo "$TREECAST_ARRAY_OFFSET ${TREECAST_ARRAY_DTYPE-none} ${TREECAST_ARRAY_SHAPE-none}"'
    assert place.run("attach", "blob", "--", "sh", "-c", words, TREECAST_ARRAY_DTYPE="<i4").out == "0 none none\n"


def test_attach_command(place):
    """attach -- COMMAND gives the command's own exit code, 126 and 127 as env(1)"""
    publish(place, "blob", b"x", None)
    expect(place.run("attach", "blob", "--", "sh", "-c", "exit 42"), 42)
    expect(place.run("attach", "blob", "--", "no-such-command-anywhere"), 127)
    expect(place.run("attach", "blob", "--", place.write("text", "x")), 126)


def test_damage(place):
    """verify finds a changed byte (exit 5)"""
    path = publish(place, "blob", bytes(200000), None)
    os.chmod(path, 0o644)
    with open(path, "r+b") as out:
        out.seek(131072)
        out.write(b"!")
    expect(place.run("verify", "blob"), 5, err="blob")


def test_clean(place):
    """clean takes left-overs, and with --all the arrays too"""
    path = publish(place, "blob", b"x", None)
    left = place.write("arrays/.treecast/blob.0011223344556677.part", "x" * 100, 0o600)
    expect(place.run("clean"), 0, out="1 file,")
    assert os.path.exists(path) and not os.path.exists(left)
    expect(place.run("clean", "--all"), 0)
    assert not os.path.exists(path)


def test_precedence(place):
    """a flag wins over the environment, that over the user's file; [verb] over [treecast]"""
    def says(*words, **variables):
        return re.search(r"chunks of (\S+ \S+)", place.run("plan", "-w", "n[1-3]", "--size", "1G", *words,
                                                           **variables).out)[1]
    conf = "home/.config/treecast/treecast.conf"
    place.write(conf, "# mine\n[treecast]\nchunk = 64K\n")
    assert says() == "64 KiB"
    place.write(conf, "[plan]\nchunk = 128K ; better\n[treecast]\nchunk = 64K\n")
    assert says() == "128 KiB"
    assert says(TREECAST_CHUNK="256K") == "256 KiB"
    assert says(TREECAST_CHUNK="") == "128 KiB"
    assert says("-s", "512K", TREECAST_CHUNK="256K") == "512 KiB"
    os.makedirs(place.path("xdg/treecast"))
    place.write("xdg/treecast/treecast.conf", "[plan]\nchunk = 1M\n")
    assert says(XDG_CONFIG_HOME=place.path("xdg")) == "1 MiB"
    answer = place.run("plan", "-w", "n[1-3]", TREECAST_CHUNK="lots")
    expect(answer, 2, err="TREECAST_CHUNK: 'lots'")
    os.unlink(place.path(conf))


def test_configuration_errors(place):
    """a mistake in the configuration names file and line, whichever verb runs; help works all the same"""
    conf = place.path("home/.config/treecast/treecast.conf")
    for text, line in (("[send]\nprot = 1\n", 2), ("[treecast]\n\nnonsense = 1\n", 3), ("[sned]\nport = 1\n", 2),
                       ("port = 1\n", 1), ("[send]\nnonsense\n", 2)):
        place.write(conf, text)
        expect(place.run("list"), 2, err=f"{conf}:{line}: ")
        expect(place.run("list", "-h"), 0)
    place.write(conf, "[send]\nport = 1\n", 0o666)
    expect(place.run("list"), 2, err="chmod o-w")
    os.unlink(conf)


def test_completion(place):
    """both completion scripts are accepted by their shells and offer verbs and options"""
    script = place.write("bash", expect(place.run("completion", "bash"), 0).out)
    offers = f"""source {script}
        try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _treecast; echo "${{COMPREPLY[*]}}"; }}
        try treecast s; try treecast send --hos; try treecast send --tree d; try treecast attach A --format ''"""
    done = subprocess.run(["bash", "-c", offers], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["send status", "--hosts --hostfile", "double", "path json sh"], done
    scratch = place.path("published")
    with subprocess.Popen([TREECAST, "recv", "-q", "-l", "127.0.0.1:0", "-d", scratch], stdout=subprocess.PIPE,
                          text=True) as agent:
        try:
            port = READY.fullmatch(agent.stdout.readline())[1]
            for name in ("one.npy", "two.bin"):
                expect(place.run("send", "-q", "-w", f"127.0.0.1:{port}", place.write("source", "abc"), name), 0)
            assert place.run("list", "--names", "-d", scratch).out == "one.npy\ntwo.bin\n"
            expect(place.run("list", "--names", "--json"), 2)
            names = f"""source {script}
                try() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _treecast; echo "${{COMPREPLY[*]}}"; }}
                try {TREECAST} attach -d {scratch} t; try {TREECAST} rm --dir={scratch} ''"""
            done = subprocess.run(["bash", "-c", names], capture_output=True,
                                  text=True, check=False)
            assert done.stdout.splitlines() == ["two.bin", "one.npy two.bin"], done
        finally:
            agent.terminate()
    script = place.write("_treecast", expect(place.run("completion", "zsh"), 0).out)
    if shutil.which("zsh"):
        assert subprocess.run(["zsh", "-n", script], check=False).returncode == 0
    expect(place.run("completion", "fish"), 2)


READY = re.compile(r"listening on 127\.0\.0\.1:(\d+), publishing in (\S+)\n")


def agent_of(folder):
    """The process that serves folder, found by the folder's name in its arguments."""
    for number in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{number}/cmdline", "rb") as words:
                if folder.encode() in words.read().split(b"\0"):
                    return int(number)
        except OSError:
            pass
    return None


def test_ready_line(place):
    """recv says where it listens in one line, answers status, and ends on SIGTERM"""
    folder = place.path("agent")
    with subprocess.Popen([TREECAST, "recv", "-q", "-l", "127.0.0.1:0", "-d", folder], stdout=subprocess.PIPE,
                          text=True) as agent:
        try:
            ready = READY.fullmatch(agent.stdout.readline())
            assert ready and ready[1] != "0" and ready[2] == folder, ready
            expect(place.run("status", "-d", folder), 0, out=ready[0])
            shown = json.loads(place.run("status", "--json", "-d", folder).out)
            assert shown["schema"] == 1 and shown["listen"].endswith(":" + ready[1]), shown
            expect(place.run("recv", "-l", "127.0.0.1:0", "-d", folder), 1)
        finally:
            agent.terminate()
            code = agent.wait(30)
    assert code == 0, code
    expect(place.run("status", "-d", folder), 1)


def test_detach(place):
    """recv --detach returns when it accepts connections, with the ready line, and fails where it fails"""
    folder = place.path("agent")
    answer = expect(place.run("recv", "-l", "127.0.0.1:0", "-d", folder, "--detach"), 0)
    assert READY.fullmatch(answer.out), str(answer)
    agent = agent_of(folder)
    try:
        expect(place.run("status", "-d", folder), 0, out=answer.out)
        expect(place.run("recv", "-l", "127.0.0.1:0", "-d", folder, "--detach"), 1)
        assert os.getsid(agent) == agent and os.readlink(f"/proc/{agent}/cwd") == "/"
        assert {os.readlink(f"/proc/{agent}/fd/{fd}") for fd in range(3)} == {"/dev/null"}
    finally:
        end = os.pidfd_open(agent)
        os.kill(agent, signal.SIGTERM)
        gone = select.select([end], [], [], 30)[0]
        os.close(end)
    assert gone, "the agent stays after SIGTERM"


def test_full_output(place):
    """output that cannot be written is a failure"""
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([TREECAST, "-h"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 6 and "standard output" in done.stderr, done
    assert place


def main():
    tests = [test for name, test in globals().items() if name.startswith("test_")]
    print(f"1..{len(tests)}")
    failed = False
    for number, test in enumerate(tests, 1):
        try:
            with tempfile.TemporaryDirectory(prefix="treecast-cli-") as folder:
                test(Place(folder))
            print(f"ok {number} - {test.__doc__}", flush=True)
        except Exception as error:
            failed = True
            text = str(error) if isinstance(error, AssertionError) and str(error) else traceback.format_exc()
            print("\n".join("# " + line for line in text.splitlines()))
            print(f"not ok {number} - {test.__doc__}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
