package devstack

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/mod/sumdb/note"
)

func TestLayoutComesFromTheEnvironment(t *testing.T) {
	t.Setenv("CARESPHERE_STATE", "")
	t.Setenv("CARESPHERE_PORT_BASE", "")
	l, err := LayoutFromEnv()
	require.NoError(t, err)
	require.Equal(t, ".caresphere", filepath.Base(l.State))
	require.Equal(t, "https://localhost:8443", l.URL(PortPublic))

	t.Setenv("CARESPHERE_STATE", "/srv/two")
	t.Setenv("CARESPHERE_PORT_BASE", "9443")
	l, err = LayoutFromEnv()
	require.NoError(t, err)
	require.Equal(t, "/srv/two/tls/ca.crt", l.CA())
	require.Equal(t, "https://localhost:9444", l.URL(PortOperators))

	for _, wrong := range []string{"x", "80", "65535", "-1"} {
		t.Setenv("CARESPHERE_PORT_BASE", wrong)
		_, err = LayoutFromEnv()
		require.ErrorContains(t, err, "CARESPHERE_PORT_BASE", wrong)
	}
}

func TestOneStateFolderRunsOnce(t *testing.T) {
	l := Layout{State: filepath.Join(t.TempDir(), "state")}
	_, running := l.running()
	require.False(t, running)
	unlock, err := l.Lock()
	require.NoError(t, err)
	_, err = l.Lock()
	var busy *StateBusy
	require.ErrorAs(t, err, &busy)
	require.Equal(t, os.Getpid(), busy.PID)
	pid, running := l.running()
	require.True(t, running)
	require.Equal(t, os.Getpid(), pid)
	_, err = Clean(l)
	require.ErrorAs(t, err, &busy, "a running stack's state is not removed")
	unlock()
	unlock, err = l.Lock()
	require.NoError(t, err)
	unlock()
	removed, err := Clean(l)
	require.NoError(t, err)
	require.Equal(t, []string{l.State}, removed)
	require.NoDirExists(t, l.State)
	removed, err = Clean(l)
	require.NoError(t, err)
	require.Empty(t, removed)
}

func TestCleanRefusesAFolderThatIsNotOurs(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "thesis.txt")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err := Clean(Layout{State: dir})
	require.ErrorContains(t, err, "does not look like")
	require.FileExists(t, file)
}

func TestTheKeychainIsKeptAndSecret(t *testing.T) {
	l := Layout{State: filepath.Join(t.TempDir(), "state")}
	unlock, err := l.Lock()
	require.NoError(t, err)
	defer unlock()
	one, err := l.openKeychain()
	require.NoError(t, err)
	two, err := l.openKeychain()
	require.NoError(t, err)
	require.Equal(t, one.passwords, two.passwords)
	require.Equal(t, one.kratos, two.kratos)
	require.Equal(t, one.courierKey, two.courierKey)
	require.Len(t, one.kratos["customers"].Cipher, 32)
	require.NotEqual(t, one.kratos["customers"], one.kratos["operators"])
	require.NotEqual(t, one.ca.CertPath(), one.tenantCA.CertPath())

	public := map[string]bool{".crt": true, ".pub": true}
	require.NoError(t, filepath.WalkDir(l.State, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case path == l.State:
			require.Equal(t, os.FileMode(0o711), info.Mode().Perm(), "others pass through and see nothing")
		case entry.IsDir():
			require.Equal(t, os.FileMode(0o700), info.Mode().Perm(), path)
		case !public[filepath.Ext(path)]:
			require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), path)
		}
		return nil
	}))
}

func TestNoteKeysSignAndAreNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, MakeNoteKey(dir, "caresphere-audit", "audit"))
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return strings.TrimSpace(string(b))
	}
	signer, err := note.NewSigner(read("audit.key"))
	require.NoError(t, err)
	verifier, err := note.NewVerifier(read("audit.pub"))
	require.NoError(t, err)
	require.Equal(t, "caresphere-audit", verifier.Name())
	signed, err := note.Sign(&note.Note{Text: "x\n"}, signer)
	require.NoError(t, err)
	_, err = note.Open(signed, note.VerifierList(verifier))
	require.NoError(t, err)

	before := read("audit.key")
	require.ErrorIs(t, MakeNoteKey(dir, "caresphere-audit", "audit"), fs.ErrExist)
	require.Equal(t, before, read("audit.key"))
	require.Error(t, MakeNoteKey(dir, "two words", "x"))
	require.Error(t, MakeNoteKey(dir, "plus+sign", "x"))
}

func TestExamineNamesWhatIsWrong(t *testing.T) {
	base, release, err := LeasePorts()
	require.NoError(t, err)
	defer release()
	cfg := Config{Layout: Layout{State: filepath.Join(t.TempDir(), "state"), Base: base}, Binaries: t.TempDir(), Cache: t.TempDir()}
	find := func(name string) Finding {
		for _, f := range Examine(t.Context(), cfg) {
			if f.Name == name {
				return f
			}
		}
		t.Fatalf("no check %s", name)
		return Finding{}
	}
	for _, name := range []string{"go", "postgres", "tools", "state", "disk", "account", "ports"} {
		require.True(t, find(name).OK, "%+v", find(name))
	}
	require.Contains(t, find("programs").Found, "controlplane")
	require.NoDirExists(t, cfg.State, "looking changes nothing")

	l, err := net.Listen("tcp", cfg.Address(PortOperators))
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	require.False(t, find("ports").OK)
	require.Contains(t, find("ports").Found, "the operators' console")
	require.Contains(t, find("ports").Do, "CARESPHERE_PORT_BASE")

	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	cfg.State = filepath.Join(file, "state")
	require.False(t, find("state").OK)
	require.Contains(t, find("state").Do, "CARESPHERE_STATE")
	cfg.State = filepath.Join(t.TempDir(), "state")
	unlock, err := cfg.Lock()
	require.NoError(t, err)
	defer unlock()
	require.Contains(t, find("state").Found, "in use by the stack")
	require.True(t, find("ports").OK, "a running stack holds its own ports")
}

func TestStartSaysWhatIsMissing(t *testing.T) {
	_, err := Start(t.Context(), Config{Layout: Layout{State: filepath.Join(t.TempDir(), "s"), Base: 20000}, Binaries: t.TempDir()})
	require.ErrorContains(t, err, "make build")
	require.False(t, errors.Is(err, fs.ErrNotExist))
}
