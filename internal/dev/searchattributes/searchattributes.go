// Package searchattributes registers the custom search attributes of Narthex's workflows in a Temporal namespace.
package searchattributes

import (
	"context"
	"errors"
	"fmt"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"

	"narthex/internal/fleet"
	"narthex/internal/saga"
)

// All are the search attributes of Narthex's workflows.
func All() map[string]enumspb.IndexedValueType {
	all := saga.SearchAttributes()
	all[fleet.StateAttribute.GetName()] = fleet.StateAttribute.GetValueType()
	return all
}

// Ensure registers those of Narthex's search attributes that the namespace lacks. Idempotent; several may run it at once.
func Ensure(ctx context.Context, c client.Client, namespace string) error {
	there, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("list search attributes of namespace %s: %w", namespace, err)
	}
	missing := map[string]enumspb.IndexedValueType{}
	for name, kind := range All() {
		if _, ok := there.CustomAttributes[name]; !ok {
			missing[name] = kind
		}
	}
	if len(missing) == 0 {
		return nil
	}
	request := &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing}
	_, err = c.OperatorService().AddSearchAttributes(ctx, request)
	if _, exist := errors.AsType[*serviceerror.AlreadyExists](err); err != nil && !exist {
		return fmt.Errorf("add search attributes to namespace %s: %w", namespace, err)
	}
	return nil
}
