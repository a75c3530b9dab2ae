package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/audit/verify"
)

const auditSamples = "../../internal/audit/verify/testdata"

func TestAuditVerify(t *testing.T) {
	key := filepath.Join(auditSamples, "audit.pub")
	for _, name := range []string{"audit.jsonl", "audit.csv"} {
		file := filepath.Join(auditSamples, name)
		out, code := runAudit(t, nil, file, "--key", key)
		require.Equal(t, 0, code, out)
		require.Contains(t, out, "VERIFIED")

		damaged, err := os.ReadFile(file)
		require.NoError(t, err)
		damaged[len(damaged)/2] ^= 1
		out, code = runAudit(t, damaged, "-", "--key", key)
		require.Equal(t, 1, code)
		require.Contains(t, out, "NOT VERIFIED")
		require.Contains(t, out, "line ")

		out, code = runAudit(t, damaged, "-", "--key", key, "--json")
		require.Equal(t, 1, code)
		var report verify.Report
		require.NoError(t, json.Unmarshal([]byte(out), &report))
		require.False(t, report.OK)
		require.NotEmpty(t, report.Problems)

		_, code = runAudit(t, nil, file, "--key", key, "--log", "control")
		require.Equal(t, 1, code)
	}
}

func TestAuditVerifyUsage(t *testing.T) {
	key, file := filepath.Join(auditSamples, "audit.pub"), filepath.Join(auditSamples, "audit.csv")
	for name, args := range map[string][]string{
		"no file": {"--key", key}, "two files": {file, file, "--key", key}, "no key": {file}, "no such file": {"nowhere", "--key", key},
		"no such key": {file, "--key", "nowhere"}, "not a key": {file, "--key", file}, "no such flag": {file, "--keys", key},
	} {
		_, code := runAudit(t, nil, args...)
		require.Equal(t, 2, code, name)
	}
}

func runAudit(t *testing.T, stdin []byte, args ...string) (string, int) {
	t.Helper()
	c := auditCmd()
	var out bytes.Buffer
	c.SetIn(bytes.NewReader(stdin))
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(append([]string{"verify"}, args...))
	c.SilenceErrors, c.SilenceUsage = true, true
	err := c.Execute()
	return out.String(), exitCode(err)
}
