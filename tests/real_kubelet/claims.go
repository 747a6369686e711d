// Writes the state of resource claims with the code of a kubelet (1.32 or later): `claims FOLDER < CLAIMS`.
package main

import (
	"encoding/json"
	"os"

	"k8s.io/kubernetes/pkg/kubelet/checkpointmanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/dra/state"
)

func main() {
	var found state.ClaimInfoStateList
	if err := json.NewDecoder(os.Stdin).Decode(&found); err != nil {
		panic(err)
	}
	checkpoint, err := state.NewCheckpoint(found)
	if err != nil {
		panic(err)
	}
	manager, err := checkpointmanager.NewCheckpointManager(os.Args[1])
	if err == nil {
		err = manager.CreateCheckpoint("dra_manager_state", checkpoint)
	}
	if err != nil {
		panic(err)
	}
}
