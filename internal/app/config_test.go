package app

import (
	"strings"
	"testing"
)

func TestTheConfigurationNamesEveryFaultAtOnceAndNoSecret(t *testing.T) {
	_, err := LoadConfig(map[string]string{
		"FANFARE_ENCRYPTION_KEYS": "k1:c2VjcmV0c2VjcmV0", "FANFARE_GRACE": "soon", "FANFARE_ALLOW_HTTP": "perhaps",
		"FANFARE_RETENTION": "1d", "FANFARE_EGRESS_ALLOW": "10.0.0.0", "FANFARE_PLATFORM_KEY": "tooshort", "FANFARE_LOG_LEVEL": "loud",
		"FANFARE_CATALOG": "no-such-file.yaml",
	})
	if err == nil {
		t.Fatal("a configuration full of faults was accepted")
	}
	for _, name := range []string{
		"FANFARE_DATABASE_URL", "FANFARE_ENCRYPTION_KEYS", "FANFARE_GRACE", "FANFARE_ALLOW_HTTP", "FANFARE_RETENTION",
		"FANFARE_EGRESS_ALLOW", "FANFARE_PLATFORM_KEY", "FANFARE_LOG_LEVEL", "FANFARE_CATALOG",
	} {
		if strings.Count(err.Error(), name+":") != 1 {
			t.Errorf("%s is not named once in:\n%s", name, err)
		}
	}
	for _, secret := range []string{"c2VjcmV0c2VjcmV0", "tooshort"} {
		if strings.Contains(err.Error(), secret) {
			t.Errorf("the message holds %q", secret)
		}
	}
}

func TestEveryVariableIsDocumented(t *testing.T) {
	for _, v := range Variables() {
		if v.Doc == "" {
			t.Errorf("%s has no doc", v.Name)
		}
	}
}
