// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {TaskCoordinator} from "../src/TaskCoordinator.sol";
import {Base} from "./Base.sol";

/// @dev ERC-792's two sides, as Kleros has them.
interface IArbitrable {
    function rule(uint256 disputeID, uint256 ruling) external;
}

/// @dev A court with a price, which numbers its disputes as it likes.
contract Court {
    uint256 public constant COST = 0.03 ether;
    mapping(uint256 => IArbitrable) private _arbitrables;
    uint256 private _last = 1000;

    function arbitrationCost(bytes calldata) external pure returns (uint256) {
        return COST;
    }

    function createDispute(uint256 choices, bytes calldata) external payable returns (uint256 disputeID) {
        require(msg.value == COST && choices == 2, "the court's terms");
        disputeID = ++_last;
        _arbitrables[disputeID] = IArbitrable(msg.sender);
    }

    function decide(uint256 disputeID, uint256 ruling) external {
        _arbitrables[disputeID].rule(disputeID, ruling);
    }
}

/// @dev All that has to stand between: it is the coordinator's arbitrator, and the court's arbitrable.
contract CourtAdapter is IArbitrable {
    TaskCoordinator private immutable COORDINATOR;
    Court private immutable COURT;
    mapping(uint256 courtDispute => uint256 disputeID) private _disputes;

    constructor(TaskCoordinator coordinator, Court court) {
        COORDINATOR = coordinator;
        COURT = court;
    }

    function accept() external {
        COORDINATOR.acceptArbitrator();
    }

    /// @dev Whoever wants a ruling pays the court for it.
    function bring(uint256 disputeID) external payable returns (uint256 courtDispute) {
        courtDispute = COURT.createDispute{value: msg.value}(2, abi.encode(COORDINATOR.disputedTask(disputeID)));
        _disputes[courtDispute] = disputeID;
    }

    function rule(uint256 courtDispute, uint256 ruling) external {
        require(msg.sender == address(COURT), "not the court");
        COORDINATOR.rule(_disputes[courtDispute], ruling);
    }
}

contract CourtTest is Base {
    function test_court_rulesThroughAnAdapter() public {
        Court court = new Court();
        CourtAdapter adapter = new CourtAdapter(coordinator, court);
        vm.prank(OWNER);
        coordinator.proposeArbitrator(address(adapter));
        vm.warp(block.timestamp + 4 days);
        adapter.accept();
        uint256 disputeID = challenged();

        vm.prank(CHALLENGER);
        uint256 courtDispute = adapter.bring{value: 0.03 ether}(disputeID);
        court.decide(courtDispute, 2);

        isState(CID, ITaskCoordinator.State.Open);
        eq(stakeOf(WORKER), STAKE / 2, "stake");
        eq(coordinator.credits(CHALLENGER), BOND + STAKE / 4, "challenger");
    }
}
