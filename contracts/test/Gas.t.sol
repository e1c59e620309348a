// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {Base} from "./Base.sol";

/// forge-config: default.isolate = true
/// @dev What each function costs as a transaction of its own, in contracts/snapshots. forge test fails
/// when a figure changes; FORGE_SNAPSHOT_CHECK=false writes the new ones.
contract GasTest is Base {
    bytes32 private constant NEXT = keccak256("another task");

    /// @dev The second task of a worker, submitter and treasury that have been paid before: the usual case.
    function warm() private {
        verified();
        vm.prank(WORKER);
        coordinator.withdraw();
        submit(SUBMITTER, keccak256("keeps a credit"), REWARD);
        claim(WORKER, keccak256("keeps a credit"));
        finish(WORKER, keccak256("keeps a credit"), RESULT);
    }

    function snapshot(string memory name) private {
        vm.snapshotGasLastCall(name);
    }

    function test_gas_life_single() public {
        warm();
        submit(SUBMITTER, NEXT, REWARD);
        snapshot("life, single: submitTask");
        claim(WORKER, NEXT);
        snapshot("life, single: claimTask");
        finish(WORKER, NEXT, RESULT);
        snapshot("life, single: submitResult");
        toDeadline(NEXT);
        coordinator.verifyTask(NEXT);
        snapshot("life, single: verifyTask");
        vm.prank(WORKER);
        coordinator.withdraw();
        snapshot("life, single: withdraw");
    }

    function test_gas_life_batch50() public {
        warm();
        bytes32[] memory cids = batch(50);
        uint256 cost = coordinator.costOf(REWARD) * 50;
        vm.prank(SUBMITTER);
        coordinator.submitTasks{value: cost}(cids, REWARD);
        snapshot("life, 50: submitTasks");
        vm.prank(WORKER);
        coordinator.claimTasks(cids);
        snapshot("life, 50: claimTasks");
        vm.prank(WORKER);
        coordinator.submitResults(cids, cids);
        snapshot("life, 50: submitResults");
        toDeadline(cids[0]);
        coordinator.verifyTasks(cids);
        snapshot("life, 50: verifyTasks");
        vm.prank(WORKER);
        coordinator.withdraw();
        snapshot("life, 50: withdraw");
    }

    function test_gas_worker() public {
        register(WORKER);
        snapshot("registerWorker");
        vm.prank(WORKER);
        coordinator.topUpStake{value: 1 ether}();
        snapshot("topUpStake");
        vm.prank(WORKER);
        coordinator.requestUnstake(1 ether);
        snapshot("requestUnstake");
        vm.warp(block.timestamp + 4 days);
        vm.prank(WORKER);
        coordinator.completeUnstake();
        snapshot("completeUnstake");
        vm.prank(WORKER);
        coordinator.withdrawTo(payable(OTHER));
        snapshot("withdrawTo");
    }

    function test_gas_task() public {
        open();
        snapshot("submitTask, the first");
        submit(OTHER, CID, REWARD);
        snapshot("submitTask, adding to another's");
        vm.prank(OTHER);
        coordinator.cancelTask(CID);
        snapshot("cancelTask");
        register(WORKER);
        vm.prank(WORKER);
        coordinator.claimTaskFor(CID, REWARD);
        snapshot("claimTaskFor");
        toDeadline(CID);
        coordinator.reclaimTask(CID);
        snapshot("reclaimTask");
        vm.warp(block.timestamp + 7 days);
        submit(OTHER, CID, REWARD);
        snapshot("submitTask, after it expired");
        vm.prank(SUBMITTER);
        coordinator.refund(CID, 0);
        snapshot("refund");
    }

    function test_gas_batches() public {
        register(WORKER);
        bytes32[] memory cids = batch(10);
        uint256 cost = coordinator.costOf(REWARD) * 10;
        vm.prank(SUBMITTER);
        coordinator.submitTasks{value: cost}(cids, REWARD);
        vm.prank(SUBMITTER);
        coordinator.cancelTasks(cids);
        snapshot("cancelTasks, 10");
        vm.prank(SUBMITTER);
        coordinator.submitTasks{value: cost}(cids, REWARD);
        vm.prank(WORKER);
        coordinator.claimTasks(cids);
        toDeadline(cids[0]);
        coordinator.reclaimTasks(cids);
        snapshot("reclaimTasks, 10");
        vm.prank(WORKER);
        coordinator.claimTasks(cids);
        vm.prank(WORKER);
        coordinator.submitResults(cids, cids);
        vm.prank(CHALLENGER);
        coordinator.challengeTasks{value: BOND * 10}(cids, "wrong");
        snapshot("challengeTasks, 10");
        uint256[] memory disputes = new uint256[](10);
        uint256[] memory rulings = new uint256[](10);
        for (uint256 i = 0; i < 10; ++i) {
            (disputes[i], rulings[i]) = (i + 1, i % 3);
        }
        vm.prank(ARBITRATOR);
        coordinator.resolveChallenges(disputes, rulings);
        snapshot("resolveChallenges, 10");
    }

    function test_gas_challenge() public {
        submitted();
        challenge(CHALLENGER, CID);
        coordinator.bondFor(0);
        toDeadline(CID);
        coordinator.expireChallenge(CID);
        snapshot("expireChallenge");
        bytes32[] memory one = new bytes32[](1);
        one[0] = CID;
        claim(WORKER, CID);
        finish(WORKER, CID, RESULT);
        vm.prank(CHALLENGER);
        coordinator.challengeTask{value: BOND}(CID, "wrong");
        snapshot("challengeTask");
        ruling(2, 2);
        snapshot("rule: challenge upheld");
        claim(WORKER, CID);
        finish(WORKER, CID, RESULT);
        challenge(CHALLENGER, CID);
        vm.prank(ARBITRATOR);
        coordinator.resolveChallenge(CID, 3, 1);
        snapshot("resolveChallenge: result stands");
        submit(SUBMITTER, CID, REWARD);
        claim(WORKER, CID);
        finish(WORKER, CID, RESULT);
        challenge(CHALLENGER, CID);
        toDeadline(CID);
        coordinator.expireChallenges(one);
        snapshot("expireChallenges, 1");
    }

    function test_gas_owner() public {
        vm.prank(OWNER);
        coordinator.setFee(100);
        snapshot("setFee");
        vm.prank(OWNER);
        coordinator.setTreasury(OTHER);
        snapshot("setTreasury");
        vm.prank(OWNER);
        coordinator.proposeArbitrator(OTHER);
        snapshot("proposeArbitrator");
        vm.warp(block.timestamp + 4 days);
        vm.prank(OTHER);
        coordinator.acceptArbitrator();
        snapshot("acceptArbitrator");
        vm.prank(OWNER);
        coordinator.pause();
        snapshot("pause");
        vm.prank(OWNER);
        coordinator.unpause();
        snapshot("unpause");
    }
}
