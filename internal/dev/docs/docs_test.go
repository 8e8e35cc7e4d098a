// Package docs holds the rules of the documentation, as tests. cmd/narthex-dev runs its commands.
package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../../.."

// pages are the documentation's files, relative to root.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md"} {
		files, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, name)
		}
	}
	if len(found) < 10 {
		t.Fatalf("there are %d pages, want at least 10", len(found))
	}
	return found
}

func read(t *testing.T, page string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, page))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	blocks   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	headings = regexp.MustCompile(`(?m)^#+ (.+)$`)
	unlinked = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// anchors are the fragments by which a page's headings can be linked to, as GitHub makes them.
func anchors(content string) []string {
	var all []string
	for _, heading := range headings.FindAllStringSubmatch(blocks.ReplaceAllString(content, ""), -1) {
		all = append(all, strings.ReplaceAll(unlinked.ReplaceAllString(strings.ToLower(heading[1]), ""), " ", "-"))
	}
	return all
}

// Each link to a file in this repository leads to an existing file, and each fragment to a heading.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		for _, link := range links.FindAllStringSubmatch(blocks.ReplaceAllString(read(t, page), ""), -1) {
			if strings.Contains(link[1], "://") {
				continue
			}
			file, fragment, _ := strings.Cut(link[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join(root, target)); err != nil {
				t.Errorf("%s links to %s, which does not exist", page, link[1])
				continue
			}
			if fragment != "" && !slices.Contains(anchors(read(t, target)), fragment) {
				t.Errorf("%s links to %s, and %s has no such heading", page, link[1], target)
			}
		}
	}
}

func TestReadmeIsShort(t *testing.T) {
	t.Parallel()
	if lines := strings.Count(read(t, "README.md"), "\n"); lines > 200 {
		t.Errorf("README.md has %d lines, want at most 200: move something to docs/", lines)
	}
}

// Each page in docs/ begins by saying who it is for, and is in the index.
func TestPagesSayWhoTheyAreFor(t *testing.T) {
	t.Parallel()
	index := read(t, "docs/README.md")
	for _, page := range pages(t) {
		name, found := strings.CutPrefix(page, "docs/")
		if !found || name == "README.md" {
			continue
		}
		parts := strings.SplitN(read(t, page), "\n\n", 3)
		if len(parts) < 3 || !strings.HasPrefix(parts[0], "# ") || !strings.HasPrefix(parts[1], "For ") {
			t.Errorf("%s does not begin with its title and a paragraph that says who it is for (\"For …\")", page)
		}
		if !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/README.md does not list %s", name)
		}
	}
}
