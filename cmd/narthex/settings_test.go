package main

import (
	"maps"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var (
	settingRow   = regexp.MustCompile("(?m)^\\| `([A-Z_]+)` \\| ([^|]+) \\|")
	temporalRead = regexp.MustCompile(`\*\*Temporal's SDK\*\*[^*]+ It does so in ([^.]+)\.`)
	readers      = regexp.MustCompile(`([a-z -]+)(?:\(except ([a-z ]+)\))?`)
	settingNamed = regexp.MustCompile(`\b([A-Z_]+) (?:is|must)\b`)
)

// docs/configuration.md says which commands read a setting: those that refuse a wrong value.
func TestCommandsReadTheSettingsThatAreDocumented(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it runs every command several times, in separate processes")
	}
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, match := range settingRow.FindAllStringSubmatch(string(page), -1) {
		documented[match[1]] = match[2]
	}
	if match := temporalRead.FindStringSubmatch(string(page)); match != nil {
		documented["TEMPORAL_ADDRESS"] = strings.Replace(strings.Join(strings.Fields(match[1]), " "), "sweep and ", "sweep, ", 1)
	}
	right := rightSettings(t)
	commands := runnable()
	readBy := map[string][]string{} // by command
	var mu sync.Mutex
	t.Run("commands", func(t *testing.T) {
		for command, arguments := range commands {
			t.Run(command, func(t *testing.T) {
				t.Parallel()
				read := settingsOf(t, slices.Collect(maps.Keys(documented)), right, arguments)
				mu.Lock()
				defer mu.Unlock()
				readBy[command] = read
			})
		}
	})
	for name, by := range documented {
		meant := commandsOf(t, by, commands)
		for command := range commands {
			if reads := slices.Contains(readBy[command], name); reads != meant[command] {
				t.Errorf("narthex %s reads %s: %t; docs/configuration.md says that it is read by %s", command, name, reads, by)
			}
		}
	}
}

// rightSettings lets every command run, except that no process can listen at OPERATIONS_ADDRESS.
func rightSettings(t *testing.T) map[string]string {
	t.Helper()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { taken.Close() })
	variables := append(environment(t, sharedTemporal(t)), "OPERATIONS_ADDRESS="+taken.Addr().String())
	wantPrinted(t, variables, "migrate")
	right := map[string]string{}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		right[name] = value
	}
	return right
}

// runnable returns the arguments of each command's first example, by command.
func runnable() map[string][]string {
	found := map[string][]string{}
	for _, cmd := range allCommands(newCommand()) {
		group := cmd.HasSubCommands() && cmd.Name() != "worker"
		if group || cmd.Deprecated != "" || cmd.Name() == "help" || cmd.Parent().Name() == "completion" {
			continue
		}
		example, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n")
		example, _, _ = strings.Cut(strings.Replace(example, "--env-file .env ", "", 1), ">")
		found[strings.TrimPrefix(cmd.CommandPath(), "narthex ")] = strings.Fields(example)[1:]
	}
	return found
}

// settingsOf gives a command a wrong value of each setting, then the right values of those that it names, and so on. It returns
// those that the command has named.
func settingsOf(t *testing.T, names []string, right map[string]string, arguments []string) (read []string) {
	t.Helper()
	for {
		var variables []string
		for _, name := range names {
			switch {
			case !slices.Contains(read, name):
				variables = append(variables, name+"=wrong value")
			case right[name] != "":
				variables = append(variables, name+"="+right[name])
			}
		}
		_, output := narthex(t, variables, arguments...)
		before := len(read)
		for _, match := range settingNamed.FindAllStringSubmatch(output, -1) {
			if slices.Contains(names, match[1]) && !slices.Contains(read, match[1]) {
				read = append(read, match[1])
			}
		}
		if len(read) == before {
			return read
		}
	}
}

// commandsOf returns the commands that words like `worker, fleet (except status and drift)` mean.
func commandsOf(t *testing.T, words string, commands map[string][]string) map[string]bool {
	t.Helper()
	meant := map[string]bool{}
	for _, match := range readers.FindAllStringSubmatch(words, -1) {
		item, except := strings.TrimSpace(match[1]), strings.Split(match[2], " and ")
		before := len(meant)
		for command := range commands {
			sub, below := strings.CutPrefix(command, item+" ")
			if command == item || below && commands[item] == nil && !slices.Contains(except, sub) {
				meant[command] = true
			}
		}
		if len(meant) == before {
			t.Errorf("docs/configuration.md names the reader %q among %s, want a command that is not among the others", item, words)
		}
	}
	return meant
}
