package catalog

import (
	"cmp"
	"slices"
	"strings"
)

// Difference is something that a catalog has but shouldn't have, or lacks but should have.
type Difference struct {
	Kind, Name string // of the object
	Property   string // "" if the object itself is missing, or shouldn't be there
	Want, Got  string // "" for what is missing; for grants, the privileges that the other lacks
}

const (
	grantsTo = "grants to " // prefix of the property that lists a role's privileges, separated by commas
	there    = "there"
)

// object is a key with the kind, because a table may have a column and a constraint of the same name.
type object struct{ kind, name string }

// pair is an object as it is in the wanted catalog and in the actual one.
type pair struct {
	want, got map[string]string // values by property; nil if the object is missing
	partOf    string
}

// Compare returns how got differs from want, in the order of the objects' names. If an object is missing, or
// shouldn't be there, its parts are not reported.
func Compare(want, got Catalog) []Difference {
	if want.Fingerprint == got.Fingerprint {
		return nil
	}
	pairs := match(want, got)
	alone := map[string]bool{} // the names of objects that exist in only one catalog
	for key, p := range pairs {
		if p.want == nil || p.got == nil {
			alone[key.name] = true
		}
	}
	var differences []Difference
	for key, p := range pairs {
		switch missing, extra := p.got == nil, p.want == nil; {
		case (missing || extra) && alone[p.partOf]:
		case missing:
			differences = append(differences, Difference{Kind: key.kind, Name: key.name, Want: there})
		case extra:
			differences = append(differences, Difference{Kind: key.kind, Name: key.name, Got: there})
		default:
			differences = append(differences, compareProperties(key, p)...)
		}
	}
	slices.SortFunc(differences, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Property, b.Property), cmp.Compare(a.Want, b.Want))
	})
	return differences
}

func match(want, got Catalog) map[object]*pair {
	pairs := map[object]*pair{}
	find := func(f Fact) *pair {
		key := object{f.Kind, f.Name}
		if pairs[key] == nil {
			pairs[key] = &pair{}
		}
		pairs[key].partOf = cmp.Or(f.PartOf, pairs[key].partOf)
		return pairs[key]
	}
	note := func(values *map[string]string, f Fact) {
		if *values == nil {
			*values = map[string]string{}
		}
		(*values)[f.Property] = f.Value
	}
	for _, f := range want.Facts {
		note(&find(f).want, f)
	}
	for _, f := range got.Facts {
		note(&find(f).got, f)
	}
	return pairs
}

func compareProperties(key object, p *pair) (differences []Difference) {
	add := func(property, want, got string) {
		if want != got {
			differences = append(differences, Difference{key.kind, key.name, property, want, got})
		}
	}
	for property, want := range p.want {
		if got := p.got[property]; strings.HasPrefix(property, grantsTo) {
			add(property, without(want, got), "")
			add(property, "", without(got, want))
		} else {
			add(property, want, got)
		}
	}
	for property, got := range p.got {
		if _, ok := p.want[property]; !ok {
			add(property, "", got)
		}
	}
	return differences
}

// without returns those privileges in these that are not in others.
func without(these, others string) string {
	had := strings.Split(others, ", ")
	return strings.Join(slices.DeleteFunc(strings.Split(these, ", "), func(p string) bool { return slices.Contains(had, p) }), ", ")
}

// Properties whose values explain themselves, and those whose values are too long to show.
var (
	telling = []string{"persistence", "row security", "forced row security", "nullability", "validity", "triggers", "state"}
	long    = []string{"body", "query"}
)

// String says what differs, as in "branches.name: type text, want character varying(200)".
func (d Difference) String() string {
	subject, kind := d.Name, d.Kind+" "
	if slices.Contains([]string{"database", "schema", "setting", "extension", "default privileges"}, d.Kind) { // the name alone says little
		subject, kind = strings.TrimSpace(d.Kind+" "+d.Name), ""
	}
	role, grants := strings.CutPrefix(d.Property, grantsTo)
	switch {
	case d.Property == "" && d.Got == "":
		return subject + ": " + kind + "missing"
	case d.Property == "":
		return subject + ": " + kind + "not in the schema"
	case grants && d.Got == "":
		return subject + ": " + d.Want + " not granted to " + role
	case grants:
		return subject + ": " + d.Got + " granted to " + role
	case slices.Contains(telling, d.Property):
		return subject + ": " + d.Got
	case slices.Contains(long, d.Property):
		return subject + ": " + d.Property + " not the schema's"
	}
	return subject + ": " + d.Property + " " + cmp.Or(d.Got, "none") + ", want " + cmp.Or(d.Want, "none")
}
