// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator, ITaskEvents} from "../src/ITaskCoordinator.sol";
import {TaskCoordinator} from "../src/TaskCoordinator.sol";

/// @dev The cheat codes that these tests use.
interface Vm {
    function warp(uint256) external;
    function deal(address, uint256) external;
    function prank(address) external;
    function startPrank(address) external;
    function stopPrank() external;
    function expectRevert() external;
    function expectRevert(bytes calldata) external;
    function expectEmit(bool, bool, bool, bool, address) external;
    function assume(bool) external pure;
    function load(address, bytes32) external view returns (bytes32);
    function store(address, bytes32, bytes32) external;
    function snapshotGasLastCall(string calldata) external returns (uint256);
}

/// @dev Who takes part, and the steps of a task's life.
abstract contract Steps is ITaskEvents {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));

    address internal constant OWNER = address(0xA11CE0);
    address internal constant TREASURY = address(0x7EA5);
    address internal constant ARBITRATOR = address(0xA4B1);
    address internal constant SUBMITTER = address(0x5B1);
    address internal constant WORKER = address(0x30A1);
    address internal constant OTHER = address(0x07E4);
    address internal constant CHALLENGER = address(0xC4A1);
    address internal constant ANYBODY = address(0xAB0D);

    bytes32 internal constant CID = keccak256("a task");
    bytes32 internal constant RESULT = keccak256("a result");
    bytes32 internal constant GARBAGE = keccak256("garbage");
    uint256 internal constant REWARD = 0.001 ether;
    uint256 internal constant FEE = 0.00002 ether;
    uint256 internal constant LOCK = 0.01 ether;
    uint256 internal constant BOND = 0.01 ether;
    uint256 internal constant STAKE = 1 ether;

    TaskCoordinator internal coordinator;

    function terms() internal pure returns (ITaskCoordinator.Settings memory) {
        return ITaskCoordinator.Settings({
            minStake: 0.1 ether,
            minReward: 0.0001 ether,
            minBond: 0.01 ether,
            maxLock: 1 ether,
            lockMultiple: 10,
            taskLifetime: 7 days,
            claimPeriod: 1 hours,
            challengePeriod: 1 hours,
            rulingPeriod: 3 days,
            unbondingPeriod: 4 days
        });
    }

    // ------------------------------------------------------------------ steps

    function register(address worker) internal {
        vm.prank(worker);
        coordinator.registerWorker{value: STAKE}();
    }

    function submit(address submitter, bytes32 cid, uint256 reward) internal {
        uint256 cost = coordinator.costOf(reward);
        vm.prank(submitter);
        coordinator.submitTask{value: cost}(cid, reward);
    }

    function claim(address worker, bytes32 cid) internal {
        vm.prank(worker);
        coordinator.claimTask(cid);
    }

    function finish(address worker, bytes32 cid, bytes32 result) internal {
        vm.prank(worker);
        coordinator.submitResult(cid, result);
    }

    function challenge(address challenger, bytes32 cid) internal returns (uint256 disputeID) {
        uint256 bond = coordinator.bondFor(coordinator.getTask(cid).reward);
        vm.prank(challenger);
        coordinator.challengeTask{value: bond}(cid, "wrong");
        return coordinator.getTask(cid).disputeID;
    }

    function ruling(uint256 disputeID, uint256 choice) internal {
        vm.prank(ARBITRATOR);
        coordinator.rule(disputeID, choice);
    }

    function open() internal {
        submit(SUBMITTER, CID, REWARD);
    }

    function claimed() internal {
        register(WORKER);
        open();
        claim(WORKER, CID);
    }

    function submitted() internal {
        claimed();
        finish(WORKER, CID, RESULT);
    }

    function challenged() internal returns (uint256) {
        submitted();
        return challenge(CHALLENGER, CID);
    }

    function verified() internal {
        submitted();
        toDeadline(CID);
        coordinator.verifyTask(CID);
    }

    function toDeadline(bytes32 cid) internal {
        vm.warp(coordinator.getTask(cid).deadline);
    }

    function beforeDeadline(bytes32 cid) internal {
        vm.warp(coordinator.getTask(cid).deadline - 1);
    }

    // ------------------------------------------------------------------ checks

    function reverts(bytes memory error) internal {
        vm.expectRevert(error);
    }

    function revertsState(bytes32 cid, ITaskCoordinator.State actual) internal {
        vm.expectRevert(abi.encodeWithSelector(ITaskCoordinator.WrongState.selector, cid, actual));
    }

    function eq(uint256 a, uint256 b, string memory what) internal pure {
        require(a == b, string.concat(what, ": ", text(a), " is not ", text(b)));
    }

    function eq(address a, address b, string memory what) internal pure {
        require(a == b, what);
    }

    function eq(bytes32 a, bytes32 b, string memory what) internal pure {
        require(a == b, what);
    }

    function state(bytes32 cid) internal view returns (ITaskCoordinator.State) {
        return coordinator.getTask(cid).state;
    }

    function isState(bytes32 cid, ITaskCoordinator.State expected) internal view {
        eq(uint256(state(cid)), uint256(expected), "state");
    }

    function stakeOf(address worker) internal view returns (uint256) {
        return coordinator.getWorker(worker).stake;
    }

    function lockedOf(address worker) internal view returns (uint256) {
        return coordinator.getWorker(worker).locked;
    }

    function bound(uint256 value, uint256 low, uint256 high) internal pure returns (uint256) {
        return low + value % (high - low + 1);
    }

    function batch(uint256 n) internal pure returns (bytes32[] memory cids) {
        cids = new bytes32[](n);
        for (uint256 i = 0; i < n; ++i) {
            cids[i] = keccak256(abi.encode("batch", i));
        }
    }

    function pair(bytes32 a, bytes32 b) internal pure returns (bytes32[] memory cids) {
        cids = new bytes32[](2);
        (cids[0], cids[1]) = (a, b);
    }

    function text(uint256 value) private pure returns (string memory) {
        if (value == 0) return "0";
        bytes memory out;
        for (; value != 0; value /= 10) {
            out = abi.encodePacked(uint8(48 + value % 10), out);
        }
        return string(out);
    }
}

/// @dev A test begins with a coordinator that nobody has used, and rich people.
abstract contract Base is Steps {
    function setUp() public virtual {
        vm.warp(1_700_000_000);
        coordinator = new TaskCoordinator(OWNER, TREASURY, ARBITRATOR, terms());
        address[6] memory rich = [SUBMITTER, WORKER, OTHER, CHALLENGER, ANYBODY, OWNER];
        for (uint256 i = 0; i < rich.length; ++i) {
            vm.deal(rich[i], 1000 ether);
        }
    }
}
