package testkit

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/devstack"
)

// ending is a test that ends when it is told to.
type ending struct {
	testing.TB
	failed bool
	said   string
	after  []func()
}

func (e *ending) Failed() bool            { return e.failed }
func (e *ending) Cleanup(f func())        { e.after = append(e.after, f) }
func (e *ending) Logf(f string, v ...any) { e.said += fmt.Sprintf(f, v...) + "\n" }
func (e *ending) end(failed bool) string {
	e.failed = failed
	for _, f := range e.after {
		f()
	}
	return e.said
}

func TestATestThatFailsShowsWhatProgramsComplainedOf(t *testing.T) {
	layout := devstack.Layout{State: t.TempDir()}
	require.NoError(t, os.Mkdir(layout.Path("logs"), 0o700))
	write := func(log, lines string) {
		f, err := os.OpenFile(layout.Log(log), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		require.NoError(t, err)
		_, err = f.WriteString(lines)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	write("router", `{"level":"ERROR","msg":"before"}`+"\n")
	for failed, want := range map[bool]string{
		true: "kratos.log complained 1 times meanwhile, at last:\n" + `{"level":"error","msg":"no connection"}` + "\n" +
			"router.log complained 2 times meanwhile, at last:\n" + `{"level":"WARN","msg":"meanwhile"}` + "\npanic: meanwhile\n" +
			"stack.log complained 1 times meanwhile, at last:\nrouter ended by itself (signal: killed); it says:\n",
		false: "",
	} {
		e := &ending{TB: t}
		complaints(e, layout)
		require.NoError(t, os.RemoveAll(layout.Log("kratos")))
		write("router", `{"level":"INFO","msg":"served"}`+"\n"+`{"level":"WARN","msg":"meanwhile"}`+"\npanic: meanwhile\n")
		write("kratos", `{"level":"error","msg":"no connection"}`+"\n")
		_, err := appended(layout.Log("stack")).Write([]byte("router ended by itself (signal: killed); it says:\nrouter is started again in 100ms\n"))
		require.NoError(t, err)
		require.Equal(t, want, e.end(failed))
		require.NoError(t, os.RemoveAll(layout.Log("kratos")))
	}
}
