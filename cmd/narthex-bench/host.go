package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/jackc/pgx/v5"
	"go.temporal.io/api/workflowservice/v1"
)

// host describes, in lines of text, the machine and software that were measured.
func host(ctx context.Context, s *stack) ([]string, error) {
	var postgres string
	conn, err := pgx.Connect(ctx, s.databases.AdminURL)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := conn.QueryRow(ctx, `SHOW server_version`).Scan(&postgres); err != nil {
		return nil, err
	}
	temporal, err := s.temporal.WorkflowService().GetSystemInfo(ctx, &workflowservice.GetSystemInfoRequest{})
	if err != nil {
		return nil, err
	}
	machine := fmt.Sprintf("%s, %d cores", field("/proc/cpuinfo", "model name", "an "+runtime.GOARCH), runtime.NumCPU())
	var kibibytes float64
	if _, err := fmt.Sscan(field("/proc/meminfo", "MemTotal", ""), &kibibytes); err == nil {
		machine += fmt.Sprintf(", %.0f GiB", kibibytes/(1<<20))
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		machine += fmt.Sprintf("; load %s at the start", strings.Fields(string(load))[0])
	}
	system := strings.Trim(field("/etc/os-release", "PRETTY_NAME", runtime.GOOS), `"`)
	return []string{
		machine,
		fmt.Sprintf(
			"%s, %s, PostgreSQL %s, Temporal %s on SQLite",
			system,
			runtime.Version(),
			strings.Fields(postgres)[0],
			temporal.ServerVersion,
		),
	}, nil
}

// field returns the value of the first line in a file that begins with name, or other if there is none.
func field(file, name, other string) string {
	content, _ := os.ReadFile(file)
	for line := range strings.Lines(string(content)) {
		if strings.HasPrefix(line, name) {
			if at := strings.IndexAny(line, ":="); at >= 0 {
				return strings.TrimSpace(line[at+1:])
			}
		}
	}
	return other
}
