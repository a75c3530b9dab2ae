package testkit_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/caresphere/caresphere/internal/testkit"
)

func do(t *testing.T, k *testkit.KratosServer, method, url, body string) (int, map[string]any) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: k.TLS(t)}}
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	res, err := client.Do(req)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	var answer map[string]any
	_ = json.Unmarshal(raw, &answer)
	return res.StatusCode, answer
}

func TestKratosSendsRecoveryCodes(t *testing.T) {
	for name, k := range map[string]*testkit.KratosServer{
		"customers": testkit.Kratos(t), "operators": testkit.Kratos(t, testkit.Operators()),
		"mailed second factor": testkit.Kratos(t, testkit.SecondFactorByMail()),
	} {
		t.Run(name, func(t *testing.T) {
			status, answer := do(t, k, "POST", k.AdminURL+"/admin/identities", `{"schema_id":"person","traits":{"email":"ann@example.com","name":"Ann"}}`)
			require.Equal(t, 201, status, "%v", answer)
			_, flow := do(t, k, "GET", k.PublicURL+"/self-service/recovery/api", "")
			id, _ := flow["id"].(string)
			require.NotEmpty(t, id, "%v", flow)
			status, answer = do(t, k, "POST", k.PublicURL+"/self-service/recovery?flow="+id, `{"method":"code","email":"ann@example.com"}`)
			require.Equal(t, 200, status, "%v", answer)
			mails := k.AwaitMail(t, "ann@example.com", 1)
			require.Len(t, mails[0].Code, 6)
			require.Contains(t, mails[0].Body, mails[0].Code)
			status, _ = do(t, k, "GET", k.PublicURL+"/self-service/registration/api", "")
			require.NotEqual(t, 200, status, "nobody registers by themselves")
		})
	}
}
