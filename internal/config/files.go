package config

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/caarlos0/env/v11"
	"github.com/compose-spec/compose-go/v2/dotenv"
)

// Secrets may be given as files: X_FILE names the file for X.
var secretVariables = []string{
	"REGISTRY_URL", "TENANT_SERVER_URL", "OTHER_TENANT_SERVER_URLS", "SEAL_KEYSET", "INDEX_KEYSET", "TOKEN_KEY", "CODEC_TOKEN",
}

// LoadFile adds the variables in a file of NAME=value lines to the process's environment. They override variables that
// are already set: whoever names a file means it. It calls warn with a sentence about anything that looks unintended.
func LoadFile(path string, warn func(string)) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("the environment file %s cannot be read", path)
	}
	text := strings.TrimPrefix(string(content), byteOrderMark)
	if !utf8.ValidString(text) {
		return fmt.Errorf("the environment file %s is not UTF-8: save it as UTF-8", path)
	}
	literal, err := parseLines(hideDollars(text))
	if err != nil {
		return fmt.Errorf("the environment file %s is malformed: each line must be NAME=value", path)
	}
	values, err := parseLines(text)
	if err != nil {
		return fmt.Errorf("the environment file %s is malformed: a $ starts the name of a variable, but no name follows it: "+
			"to keep a $, put the value in single quotes", path)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := os.Setenv(name, values[name]); err != nil {
			return fmt.Errorf("the environment file %s sets a variable with the malformed name %q", path, name)
		}
		if values[name] != strings.ReplaceAll(literal[name], hiddenDollar, "$") {
			warn(fmt.Sprintf("the environment file %s has a $ in the value of %s, which was taken for the name of a variable and replaced: "+
				"to keep the $, put the value in single quotes", path, name))
		}
	}
	return nil
}

// parseLines treats variables that the file does not set as blank. Without a look-up function the parser would log
// their names, which may be parts of a password.
func parseLines(text string) (map[string]string, error) {
	return dotenv.ParseWithLookup(strings.NewReader(text), func(string) (string, bool) { return "", true })
}

const byteOrderMark = "\ufeff"

// hiddenDollar stands for a $ that must not begin a variable's name.
const hiddenDollar = "\ue000"

var dollars = regexp.MustCompile(`\\\$|\$\$|\$`)

// hideDollars hides each $ that is not escaped.
func hideDollars(text string) string {
	return dollars.ReplaceAllStringFunc(text, func(found string) string {
		if found == "$" {
			return hiddenDollar
		}
		return found
	})
}

// Secrets returns the environment's variables, including those that are read from files. Its error is one
// sentence.
func Secrets() (map[string]string, error) {
	environment, unread := withFiles(env.ToMap(os.Environ()))
	if len(unread) > 0 {
		return nil, errors.New(strings.Join(slices.Sorted(maps.Values(unread)), "; "))
	}
	return environment, nil
}

// withFiles reads the secrets that are given as files. For each variable that was not read, it says why.
func withFiles(variables map[string]string) (environment, unread map[string]string) {
	environment, unread = maps.Clone(variables), map[string]string{}
	for _, name := range secretVariables {
		file := environment[name+"_FILE"]
		if file == "" {
			continue
		}
		if environment[name] != "" {
			unread[name] = fmt.Sprintf("%s and %s_FILE are both set: unset one", name, name)
			continue
		}
		content, err := os.ReadFile(file)
		problem := "cannot be read"
		if err == nil {
			environment[name], problem = secretIn(content)
		}
		if problem != "" {
			unread[name] = fmt.Sprintf("%s_FILE names a file that %s", name, problem)
		}
	}
	return environment, unread
}

// secretIn returns the secret in a file's content, or what is wrong with the file.
func secretIn(content []byte) (secret, problem string) {
	secret = strings.TrimSpace(string(content))
	switch {
	case secret == "":
		return "", "is empty"
	case strings.HasPrefix(secret, byteOrderMark):
		return "", "begins with a byte order mark: save it as UTF-8 without BOM"
	case !utf8.ValidString(secret):
		return "", "is not UTF-8: save it as UTF-8 without BOM"
	case strings.Trim(secret, `"'`) != secret:
		return "", "has quotes around the value: a file holds the value alone"
	}
	return secret, ""
}
